"""Stores: what several instances share, or one keeps for itself, opened by URL.

A store is one module and one line in a table here. It is loaded when somebody asks for it, so that what it needs has to
be installed only then.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, cast

from gatekit.core.counters import Counters, Plans
from gatekit.core.ports import ApiKeyRecords, Ports, Revocations

REVOCATIONS: Final[Mapping[str, str]] = {
    "file": "gatekit.stores.revocations_file:FileRevocations",
    "memory": "gatekit.stores.revocations:MemoryRevocations",
    "redis": "gatekit.stores.revocations_redis:RedisRevocations",
    "rediss": "gatekit.stores.revocations_redis:RedisRevocations",
}
"""Scheme → where the store of what is revoked is."""

API_KEYS: Final[Mapping[str, str]] = {
    "file": "gatekit.stores.api_keys_file:FileApiKeys",
    "redis": "gatekit.stores.api_keys_redis:RedisApiKeys",
    "rediss": "gatekit.stores.api_keys_redis:RedisApiKeys",
}
"""Scheme → where the store of API keys is."""

COUNTERS: Final[Mapping[str, str]] = {
    "limits+memcached": "gatekit.stores.counters_limits:LimitsCounters",
    "limits+mongodb": "gatekit.stores.counters_limits:LimitsCounters",
    "limits+redis": "gatekit.stores.counters_limits:LimitsCounters",
    "redis": "gatekit.stores.counters_redis:redis_counters",
    "redis+cluster": "gatekit.stores.counters_redis:redis_counters",
    "redis+sentinel": "gatekit.stores.counters_redis:redis_counters",
    "rediss": "gatekit.stores.counters_redis:redis_counters",
    "rediss+cluster": "gatekit.stores.counters_redis:redis_counters",
    "rediss+sentinel": "gatekit.stores.counters_redis:redis_counters",
}
"""Scheme → where the counters of rate limits are."""

PLANS: Final[Mapping[str, str]] = {
    "file": "gatekit.stores.plans_file:FilePlans",
    "redis": "gatekit.stores.plans_redis:RedisPlans",
    "redis+cluster": "gatekit.stores.plans_redis:RedisPlans",
    "redis+sentinel": "gatekit.stores.plans_redis:RedisPlans",
    "rediss": "gatekit.stores.plans_redis:RedisPlans",
    "rediss+cluster": "gatekit.stores.plans_redis:RedisPlans",
    "rediss+sentinel": "gatekit.stores.plans_redis:RedisPlans",
}
"""Scheme → where it is kept who has which plan."""


class SystemStores:
    """`Stores` by the tables. Opening does no I/O, and no error repeats a URL: it may hold a password."""

    def revocations(self, url: str, ports: Ports) -> Revocations:
        return cast("Revocations", _opened("what is revoked", REVOCATIONS, url, ports))

    def api_keys(self, url: str, ports: Ports) -> ApiKeyRecords:
        return cast("ApiKeyRecords", _opened("API keys", API_KEYS, url, ports))

    def counters(self, url: str, ports: Ports) -> Counters:
        return cast("Counters", _opened("counters", COUNTERS, url, ports))

    def plans(self, url: str, ports: Ports) -> Plans:
        return cast("Plans", _opened("plans", PLANS, url, ports))


def _opened(what: str, table: Mapping[str, str], url: str, ports: Ports) -> Any:
    scheme, colon, _ = url.partition(":")
    place = table.get(scheme.lower()) if colon else None
    if place is None:
        raise ValueError(f"the URL of a store of {what} begins with one of {', '.join(f'{known}:' for known in table)}")
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)(url, ports)
