"""How often may they? Limits by address, caller, tenant, route or any key, counted here or in a shared store."""

from gatekit.policies.rate_limit.config import RateLimit
from gatekit.policies.rate_limit.local import LocalCounters

__all__ = ["LocalCounters", "RateLimit"]
