"""Stores: what several instances share, or one keeps for itself, opened by URL.

A store is one module and one line in a table here. It is loaded when somebody asks for it, so that what it needs has to
be installed only then.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, cast

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


class SystemStores:
    """`Stores` by the tables. Opening does no I/O, and no error repeats a URL: it may hold a password."""

    def revocations(self, url: str, ports: Ports) -> Revocations:
        return cast("Revocations", _opened("what is revoked", REVOCATIONS, url, ports))

    def api_keys(self, url: str, ports: Ports) -> ApiKeyRecords:
        return cast("ApiKeyRecords", _opened("API keys", API_KEYS, url, ports))


def _opened(what: str, table: Mapping[str, str], url: str, ports: Ports) -> Any:
    scheme, colon, _ = url.partition(":")
    place = table.get(scheme.lower()) if colon else None
    if place is None:
        raise ValueError(f"the URL of a store of {what} begins with one of {', '.join(f'{known}:' for known in table)}")
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)(url, ports)
