"""An authoriser whose answers are scripted, and the requests that are put to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.core.policy import bound
from gatekit.core.ports import Fetched, Ports
from gatekit.core.verdict import Reply
from gatekit.errors import StoreUnavailable
from gatekit.policies.authz import Authz, Rule
from gatekit.policies.authz.external import External
from gatekit.policies.authz.external_call import BoundExternal
from gatekit.policies.authz.rules import ANSWER
from gatekit.testing import FakeFetch, ManualClock, request, test_ports
from gatekit.testing.policies import step

OPA = "https://opa.internal/v1/data/httpapi/authz"
ENVOY = "https://auth.internal/check"
SEEN = ENVOY + "/v1/orders/7"

ANN = Identity(
    "ann", issuer="https://id.example", tenant="acme", client="app", scopes=frozenset({"b", "a"}),
    roles=frozenset({"staff", "admin"}), claims={"level": 3, "email": "ann@x.example", "groups": ["g"]}, scheme="jwt",
)  # fmt: skip


class Unreached(StoreUnavailable):
    """As the Fetch port says that no connection came about."""

    unsent = True


def asked(target: str = "/v1/orders/7?q=1", **given: Any) -> Exchange:
    told: dict[str, Any] = {"identity": ANN, "params": {"id": "7"}, **given}
    return request(told.pop("method", "GET"), target, **told)


class Scene:
    """An authoriser whose answers are scripted, before a clock that stands still."""

    def __init__(self, fetch: Any = None, ports: dict[str, Any] | None = None, **fields: Any) -> None:
        self.clock = ManualClock()
        self.fetch: Any = FakeFetch() if fetch is None else fetch
        self.spec = External(url=fields.pop("url", ENVOY if fields.get("style") == "envoy" else OPA), **fields)
        self.ports = test_ports(**{"clock": self.clock, "fetch": self.fetch, **(ports or {})})
        self.decider: BoundExternal = self.spec.bind_to(self.ports)

    def answers(self, url: str = OPA, **how: Any) -> Scene:
        self.fetch.answer(url, **how)
        return self

    def says(self, *results: Any) -> Scene:
        for result in results:
            self.answers(json={"result": result})
        return self

    def ask(self, exchange: Exchange | None = None) -> bool | None:
        found = self.decider.decide(asked() if exchange is None else exchange)
        if callable(found):
            pending: Any = found()
            told: bool | None = step(pending, "asking")
            return told
        return found

    def reply(self, exchange: Exchange) -> Reply:
        found: Reply = exchange.facts[ANSWER]
        return found

    def question(self) -> Any:
        return json.loads(self.fetch.calls[-1].body)["input"]

    @property
    def counts(self) -> dict[str, object]:
        told = self.decider.status()
        return {
            name: told[name]
            for name in ("asked", "allowed", "denied", "cached", "failed", "withheld", "retried")
            if told[name]
        }


class Held:
    """A fetch that answers when it is let go."""

    def __init__(self) -> None:
        self.calls = 0
        self._gate = asyncio.Event()
        self._changed = asyncio.Event()

    async def __call__(self, *args: Any, **fields: Any) -> Fetched:
        self.calls += 1
        self._changed.set()
        await self._gate.wait()
        return Fetched(200, {}, b'{"result": true}')

    async def begun(self, number: int) -> None:
        async with asyncio.timeout(5):
            while self.calls < number:
                self._changed.clear()
                await self._changed.wait()

    def let_go(self) -> None:
        self._gate.set()


async def asking(scene: Scene, exchange: Exchange | None = None) -> bool | None:
    found = scene.decider.decide(asked() if exchange is None else exchange)
    return await found() if callable(found) else found


def policy(ports: Ports, *rules: Rule, **fields: Any) -> Any:
    return bound(Authz(allow=rules, **fields), ports).policy


def refused(found: Any) -> Reply | None:
    reply: Reply | None = step(found, "decide") if isinstance(found, Coroutine) else found
    return reply
