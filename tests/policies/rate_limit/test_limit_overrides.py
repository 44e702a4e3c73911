"""Limits of single callers: which of them counts for whom."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.rate_limit.limit_scene import exchange

from gatekit.core.events import Events
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import RoutePlan
from gatekit.policies.rate_limit.overrides import Overrides

ANN = Identity("ann", tenant="acme-eu", client="app", scheme="jwt")
KEY = Identity("ann", tenant="acme", client="reports", scheme="api_key")
ORDERS = RoutePlan("orders", "/orders", Pipeline([], events=Events()))

ALL = {
    "user:ann": 1,
    "api_key:reports": 2,
    "client:app": 3,
    "client:reports": 4,
    "tenant:acme": 5,
    "tenant:acme-*": 6,
    "client_ip:203.0.113.9": 7,
    "route:orders": 8,
}


@pytest.mark.parametrize(
    ("names", "given", "found"),
    [
        (ALL, {"identity": ANN, "route": ORDERS}, 1),
        (ALL.keys() - {"user:ann"}, {"identity": ANN, "route": ORDERS}, 3),
        (ALL.keys() - {"user:ann"}, {"identity": KEY, "route": ORDERS}, 2),
        (ALL.keys() - {"user:ann", "api_key:reports"}, {"identity": KEY, "route": ORDERS}, 4),
        (["tenant:acme", "tenant:acme-*", "client_ip:203.0.113.9"], {"identity": ANN}, 6),
        (["tenant:acme", "tenant:acme-*", "client_ip:203.0.113.9"], {"identity": KEY}, 5),
        (["client_ip:203.0.113.9", "route:orders"], {"identity": ANN, "route": ORDERS}, 7),
        (["client_ip:203.0.113.9", "route:orders"], {"peer": "::1", "route": ORDERS}, 8),
        (["route:orders"], {}, None),
        (["user:ann", "tenant:acme"], {"identity": ANONYMOUS}, None),
        (["user:ann", "tenant:acme"], {}, None),
        (["api_key:reports"], {"identity": Identity("a", client="reports", scheme="jwt")}, None),
        ([], {"identity": ANN}, None),
    ],
)
def test_the_most_specific_counts(names: Any, given: dict[str, Any], found: int | None) -> None:
    assert Overrides({name: ALL[name] for name in names}).find(exchange(**given)) == found


def test_a_longer_beginning_counts_before_a_shorter_one_and_an_exact_name_before_both() -> None:
    overrides = Overrides({"tenant:*": 1, "tenant:acme*": 2, "tenant:acme-eu*": 3, "tenant:acme-eu-1": 4})

    def tenant(name: str) -> int | None:
        return overrides.find(exchange(identity=Identity("a", tenant=name, scheme="jwt")))

    assert [tenant(name) for name in ("x", "acme", "acme-us", "acme-eu-2", "acme-eu-1")] == [1, 2, 2, 3, 4]


def test_a_smaller_network_counts_before_a_larger_one() -> None:
    overrides = Overrides(
        {"client_ip:0.0.0.0/0": 1, "client_ip:10.0.0.0/8": 2, "client_ip:10.1.0.0/16": 3, "client_ip:2001:db8::/32": 4}
    )
    peers = ["192.0.2.1", "10.9.9.9", "10.1.9.9", "::ffff:10.1.9.9", "2001:db8::1", "2001:db9::1", None, "socket"]
    assert [overrides.find(exchange(peer)) for peer in peers] == [1, 2, 3, 3, 4, None, None, None]


@given(
    begun=st.sets(st.text("ab", max_size=3), max_size=5),
    exact=st.sets(st.text("ab", min_size=1, max_size=3), max_size=5),
    name=st.text("ab", min_size=1, max_size=4),
)
def test_it_is_what_looking_at_each_of_them_would_find(begun: set[str], exact: set[str], name: str) -> None:
    given = {f"tenant:{one}*": f"{one}*" for one in begun} | {f"tenant:{one}": one for one in exact}
    matching = [one for one in begun if name.startswith(one)]
    wanted = name if name in exact else (f"{max(matching, key=len)}*" if matching else None)
    assert Overrides(given).find(exchange(identity=Identity("a", tenant=name, scheme="jwt"))) == wanted
