"""One request: what is worked out when it is asked for, rewriting, queued headers, nested drivers."""

from __future__ import annotations

from typing import Any

import pytest

from gatekit.core.events import Events
from gatekit.core.exchange import NoBody
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.outcome import Fault
from gatekit.core.paths import PathRefused
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import RoutePlan


@pytest.mark.parametrize(
    ("trusted", "peer", "client"),
    [
        ([], "10.0.0.1", "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1", "198.51.100.1"),
        (["10.0.0.0/8"], "203.0.113.9", "203.0.113.9"),
        ([], None, None),
    ],
)
def test_the_client_is_found_behind_trusted_peers(
    make_exchange: Any, trusted: list[str], peer: str | None, client: str | None
) -> None:
    exchange = make_exchange([(b"x-forwarded-for", b"6.6.6.6, 198.51.100.1")], peer=peer, trusted=trusted)
    assert exchange.client_ip == client
    exchange.headers.remove("x-forwarded-for")
    assert exchange.client_ip == client


def test_the_request_id_is_made_once(make_exchange: Any) -> None:
    exchange = make_exchange()
    assert exchange.request_id == exchange.request_id
    assert len(exchange.request_id) == 32


def test_headers_are_read_by_name(make_exchange: Any) -> None:
    exchange = make_exchange([(b"accept", b"a"), (b"accept", b"b")])
    assert exchange.header("Accept") == "a"
    assert exchange.header("Cookie") is None


def test_facts_and_what_was_provided(make_exchange: Any) -> None:
    exchange = make_exchange()
    assert not exchange.has("plan")
    assert not exchange.has("identity")
    exchange.facts["plan"] = "gold"
    exchange.identity = ANONYMOUS
    assert exchange.has("plan")
    assert exchange.has("identity")
    assert not exchange.has("colour")
    assert exchange.facts == {"plan": "gold"}


def test_headers_are_queued_with_the_place_of_who_did(make_exchange: Any) -> None:
    exchange = make_exchange()
    exchange.respond_with("X-A", "1")
    exchange.cursor = 3
    exchange.respond_with(b"x-b", b"2")
    assert exchange.queue == [(0, b"x-a", b"1"), (3, b"x-b", b"2")]
    for name, value in (("a b", "1"), ("a", "1\n")):
        with pytest.raises(ValueError, match="header"):
            exchange.respond_with(name, value)
    exchange.answered = True
    with pytest.raises(RuntimeError, match="on_response"):
        exchange.respond_with("X-A", "1")


def test_what_is_not_rewritten_goes_on_as_it_came(make_exchange: Any) -> None:
    exchange = make_exchange()
    exchange.door.admit(exchange, b"/a", b"b=c")
    assert (exchange.target_path, exchange.target_query, exchange.target_host) == (b"/a", b"b=c", None)
    assert not exchange.rewritten
    exchange.rewrite()
    exchange.rewrite(host="other.example")
    assert not exchange.rewritten
    assert exchange.target_host == b"other.example"


def test_rewriting_leaves_what_was_matched(make_exchange: Any) -> None:
    exchange = make_exchange()
    exchange.door.admit(exchange, b"/a", b"b=c")
    exchange.rewrite(path=b"/x/../y z%41".replace(b" ", b"%20"))
    assert (exchange.target_path, exchange.path, exchange.raw_path) == (b"/y%20zA", "/a", b"/a")
    assert exchange.rewritten
    exchange.rewrite(query=b"")
    assert (exchange.target_query, exchange.query) == (b"", b"b=c")


@pytest.mark.parametrize("path", [b"admin", b"/a;b", b"/a%2fb", b"/%00", b"/a?b"])
def test_a_rewrite_to_a_path_with_two_readings_is_refused(make_exchange: Any, path: bytes) -> None:
    exchange = make_exchange()
    exchange.door.admit(exchange, b"/a", b"")
    with pytest.raises(PathRefused):
        exchange.rewrite(path=path)
    assert not exchange.rewritten


@pytest.mark.parametrize("host", ["a\r\nb", "a/b", "a b", "", "a:99999", "[::1", "日"])
def test_a_rewritten_host_is_a_host(make_exchange: Any, host: str) -> None:
    with pytest.raises(PathRefused, match="not a host"):
        make_exchange().rewrite(host=host)


@pytest.mark.parametrize("query", [b"a b", b"a\r\nevil: 1", b"a#b"])
def test_a_rewritten_query_cannot_end_its_line(make_exchange: Any, query: bytes) -> None:
    with pytest.raises(PathRefused, match="query"):
        make_exchange().rewrite(query=query)


ROUTE = RoutePlan("orders", "/orders", Pipeline([], events=Events()))


def test_an_inner_exchange_begins_with_what_is_known(make_exchange: Any) -> None:
    outer, inner = make_exchange(), make_exchange()
    outer.identity = Identity("ann", scheme="x")
    outer.facts["plan"] = "gold"
    known = outer.request_id, outer.client_ip
    inner.inherit(outer)
    assert inner.parent is outer
    assert (inner.identity, inner.request_id, inner.client_ip, inner.facts) == (
        outer.identity,
        *known,
        {"plan": "gold"},
    )
    inner.facts["more"] = 1
    assert "more" not in outer.facts


def test_what_an_inner_exchange_learned_reaches_every_outer_one(make_exchange: Any) -> None:
    outermost, outer, inner = make_exchange(), make_exchange(), make_exchange()
    outer.inherit(outermost)
    inner.inherit(outer)
    inner.identity, inner.route, inner.reason, inner.fault = ANONYMOUS, ROUTE, "authz.denied", Fault.CLIENT
    inner.backend, inner.attempts = "orders-1", 2
    inner.facts["plan"] = "gold"
    inner.report()
    for one in (outer, outermost):
        assert (one.identity, one.route, one.reason, one.fault) == (ANONYMOUS, ROUTE, "authz.denied", Fault.CLIENT)
        assert (one.backend, one.attempts, one.facts) == ("orders-1", 2, {"plan": "gold"})


def test_an_inner_exchange_without_route_and_facts_leaves_the_outer_ones(make_exchange: Any) -> None:
    outer, inner = make_exchange(), make_exchange()
    inner.inherit(outer)
    outer.route = ROUTE
    outer.facts["plan"] = "gold"
    inner.report()
    assert (outer.route, outer.facts) == (ROUTE, {"plan": "gold"})
    outer.report()
    assert repr(ROUTE) == "RoutePlan('orders')"


async def test_a_request_without_a_body_has_nothing_to_read_or_to_leave() -> None:
    body = NoBody()
    assert (body.data, body.length, body.limit) == (b"", 0, None)
    body.abandon()
    assert (await body.read(), await body.buffer(1)) == (b"", b"")


def test_the_target_at_once_is_the_same_as_part_by_part(make_exchange: Any) -> None:
    exchange = make_exchange()
    exchange.raw_path, exchange.query = b"/a", b"b"
    assert exchange.target == (b"/a", b"b", None)
    exchange.rewrite(path=b"/c/../d", query=b"e", host="h.example")
    assert exchange.target == (b"/d", b"e", b"h.example")
    assert exchange.target == (exchange.target_path, exchange.target_query, exchange.target_host)
