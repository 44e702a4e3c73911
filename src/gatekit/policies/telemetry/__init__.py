"""Telemetry: what happened to each request."""

from gatekit.policies.telemetry.config import Telemetry

__all__ = ["Telemetry"]
