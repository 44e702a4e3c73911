"""How often may they? Limits by address, caller, tenant, route or any key, counted here or in a shared store."""

from gatekit.policies.rate_limit.config import RateLimit
from gatekit.policies.rate_limit.events import LimitExceeded, LimitNear, StoreBack, StoreLost
from gatekit.policies.rate_limit.local import LocalCounters
from gatekit.policies.rate_limit.rules import LimitRule

__all__ = ["LimitExceeded", "LimitNear", "LimitRule", "LocalCounters", "RateLimit", "StoreBack", "StoreLost"]
