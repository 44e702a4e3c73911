"""CORS: which pages of other origins may read answers."""

from gatekit.policies.cors.config import Cors

__all__ = ["Cors"]
