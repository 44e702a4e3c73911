"""Who shares a key set with whom, and that nothing of it needs an event loop."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, ClassVar

import pytest
from tests.policies.authn.keysets_scene import (
    ALGORITHMS,
    URL,
    Scene,
    ask,
    plain,
    refresh,
)

from gatekit.core.events import KeySetRefreshed
from gatekit.core.exchange import Exchange
from gatekit.core.policy import Spec
from gatekit.core.ports import Ports, Reach
from gatekit.core.verdict import Reply
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn.keysets import KeySource, RemoteKeys
from gatekit.testing import Suspensions, never_suspends, request, run, test_ports

# -- who shares what


def test_whoever_asks_the_same_shares_one_set_and_a_reload_keeps_it() -> None:
    scene = Scene("a")
    ask(scene.keys(), "a")
    other = RemoteKeys(
        KeySource(url=URL, algorithms=ALGORITHMS, ttl=100.0), scene.ports.afresh().owned_by("route:orders")
    )
    assert plain(other, "a") is not None
    assert scene.idp.fetches == 1
    assert len(scene.ports.cells) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"url": URL + "2"},
        {"algorithms": frozenset({"RS256", "EdDSA"})},
        {"url": None, "issuer": URL},
        {"reach": Reach(networks=("10.0.0.0/8",))},
    ],
    ids=["url", "algorithms", "issuer", "reach"],
)
def test_what_differs_shares_nothing(other: dict[str, Any]) -> None:
    scene = Scene("a")
    scene.keys()
    scene.keys(**{"url": URL, **other})
    assert len(scene.ports.cells) == 2


def test_a_job_is_the_same_after_a_reload_and_another_with_other_settings() -> None:
    scene = Scene("a")
    assert scene.keys().jobs()[0].key == scene.keys().jobs()[0].key
    assert scene.keys().jobs()[0].key != scene.keys(ttl=100.0).jobs()[0].key
    assert scene.keys().jobs()[0].first_after == 0


def test_two_jobs_over_the_same_keys_fetch_once() -> None:
    scene = Scene("a")
    one, two = scene.keys(), scene.keys(ttl=250.0)
    refresh(one)
    refresh(two)
    assert scene.idp.fetches == 1


def test_a_set_that_did_not_change_is_not_read_again() -> None:
    scene = Scene("a")
    keys = scene.keys()
    first = ask(keys, "a")
    scene.clock.advance(270)
    refresh(keys)
    assert plain(keys, "a") is first
    assert scene.events == [KeySetRefreshed(URL, 1, True), KeySetRefreshed(URL, 1, False)]
    scene.idp.kids = ["a", "b"]
    scene.clock.advance(270)
    refresh(keys)
    assert scene.events[2:] == [KeySetRefreshed(URL, 2, True)]


# -- no event loop


class NeedsKey(Spec):
    """Lets a request through whose header names a key that there is."""

    kind: ClassVar[str] = "needs_key"

    def bind_to(self, ports: Ports) -> object:
        return _NeedsKey(RemoteKeys(KeySource(url=URL, algorithms=ALGORITHMS), ports))


class _NeedsKey:
    def __init__(self, keys: RemoteKeys) -> None:
        self._keys = keys

    async def decide(self, exchange: Exchange) -> Reply | None:
        found = self._keys.find(exchange.headers.get("x-kid"), "EdDSA")
        try:
            key = await found if isinstance(found, Coroutine) else found
        except StoreUnavailable:
            return Reply(503, "test.unavailable", "")
        return None if key is not None else Reply(401, "test.unknown_key", "")


def test_nothing_waits_for_a_loop_where_the_ports_do_not() -> None:
    scene = Scene("a")
    asked = [request("GET", "/", headers={"x-kid": kid}) for kid in ("a", "b", "c", "a")]
    with Suspensions() as suspensions:
        specs = suspensions.watch(NeedsKey())
        assert [run(specs, one, ports=scene.ports).status for one in asked] == [200, 401, 401, 200]
        scene.idp.down()
        scene.clock.advance(31)
        lost = request("GET", "/", headers={"x-kid": "d"})
        assert run(specs, lost, ports=scene.ports).status == 503
    scene.idp.up()
    assert run(never_suspends(NeedsKey()), asked[0], ports=test_ports(fetch=scene.idp)).status == 200
