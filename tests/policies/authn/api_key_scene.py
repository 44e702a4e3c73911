"""What the tests of API keys in a store share: stores in memory, and a policy over one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from gatekit.core.identity import Identity
from gatekit.core.policy import Job
from gatekit.core.ports import Cells, Ports
from gatekit.core.verdict import Reply
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn import api_keys, key_hash
from gatekit.policies.authn.key_hash import new_api_key
from gatekit.policies.authn.keys import ApiKeys, BoundKeys
from gatekit.policies.authn.method import Verified
from gatekit.testing import ManualClock, SeededRandom, request, test_ports
from gatekit.testing.policies import step

RANDOM = SeededRandom(2)
ONE, TWO, STRANGER = (new_api_key(RANDOM.token) for _ in range(3))
URL = "redis://keys.example/0"

Answer = Identity | tuple[int, str]


class Records:
    """A store whose records are a dict, that counts what it is asked and can be down."""

    def __init__(self, **records: Mapping[str, Any]) -> None:
        self.records = dict(records)
        self.asked: list[str] = []
        self.down = False

    async def find(self, prefix: str) -> Mapping[str, Any] | None:
        self.asked.append(prefix)
        if self.down:
            raise StoreUnavailable("down")
        found = self.records.get(prefix)
        return None if found is None else dict(found)


class InMemory(Records):
    """A store that answers at once, as soon as it has been read."""

    def __init__(self, **records: Mapping[str, Any]) -> None:
        super().__init__(**records)
        self.loaded = False
        self.refreshed = Job("refresh", self.refresh, lambda: 1.0)

    async def refresh(self) -> None:
        self.loaded = not self.down

    async def find(self, prefix: str) -> Mapping[str, Any] | None:
        self.asked.append(prefix)
        await self.refresh()
        return self.known(prefix)

    def known(self, prefix: str) -> Mapping[str, Any] | None:
        if not self.loaded:
            raise StoreUnavailable("not read yet")
        return self.records.get(prefix)

    def jobs(self) -> Iterable[Job]:
        return [self.refreshed]

    def status(self) -> Mapping[str, Any]:
        return {"records": len(self.records)}


class OneStore:
    """`Stores` that opens one."""

    def __init__(self, store: Records) -> None:
        self.store = store
        self.opened: list[tuple[str, str]] = []

    def revocations(self, url: str, ports: Ports) -> Any:
        raise AssertionError("nobody asked for revocations")

    def api_keys(self, url: str, ports: Ports) -> Records:
        self.opened.append((url, ports.owner))
        return self.store


class World:
    """A policy over a store, and the clock."""

    def __init__(self, store: Records | None = None, method: ApiKeys | None = None, **ports: Any) -> None:
        self.store = Records(**{ONE.prefix: record("one", ONE)}) if store is None else store
        self.stores = OneStore(self.store)
        self.clock = ManualClock()
        self.cells = Cells()
        self.method = api_keys(source=URL) if method is None else method
        self.given = ports
        self.bound = self.bind()

    def bind(self, headers: Callable[[Identity], list[tuple[bytes, bytes]]] = lambda identity: []) -> BoundKeys:
        ports = test_ports(clock=self.clock, stores=self.stores, cells=self.cells, **self.given)
        return self.method.bind_to(ports, "gateway", headers)

    def ask(self, key: str, bound: BoundKeys | None = None) -> Answer:
        exchange = request(headers={"X-Api-Key": key})
        found = (self.bound if bound is None else bound).identify(exchange)
        if isinstance(found, Awaitable):
            found = step(found, "identify")  # type: ignore[arg-type]
        if isinstance(found, Reply):
            if found.status == 503:
                assert found.headers == [(b"retry-after", b"1")]
            return found.status, found.reason
        assert isinstance(found, Verified)
        return found.identity


def record(id: str, key: Any, **more: Any) -> dict[str, Any]:
    return {"id": id, "hash": key.hash, **more}


GOOD = Identity("one", client="one", scheme="api_key")
INVALID = (401, "authn.invalid_key")
UNAVAILABLE = (503, "authn.keys_unavailable")


def near_miss() -> str:
    """A key of the form, of the prefix, and not the one."""
    body = f"gk_{ONE.prefix}_" + "0" * 32
    return body + key_hash.checksum(body.encode())
