"""Guard: what browsers are told to keep a service from harm."""

from gatekit.policies.guard.config import SecurityHeaders

__all__ = ["SecurityHeaders"]
