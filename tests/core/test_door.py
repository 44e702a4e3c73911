"""What the door refuses, what it fills in, and what it says about a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekit.core import door as door_module
from gatekit.core.door import Door
from gatekit.core.exchange import Exchange, NoBody
from gatekit.core.paths import ENCODED_SLASH, SEMICOLON, PathRefused
from gatekit.core.peers import Trust

Doors = Callable[..., Door]
HOST = (b"host", b"shop.example")


def enter(door: Door, exchange: Exchange, path: bytes = b"/", query: bytes = b"") -> tuple[int, str] | None:
    reply = door.admit(exchange, path, query)
    return None if reply is None else (reply.status, reply.reason)


def test_it_fills_in_what_policies_read(make_exchange: Any, make_door: Doors) -> None:
    exchange = make_exchange([(b"host", b"Shop.Example.:8443")])
    assert enter(make_door(), exchange, b"/a/../b%20c", b"x=\xc3\xa9") is None
    assert (exchange.authority, exchange.host, exchange.port) == ("shop.example.:8443", "shop.example", 8443)
    assert (exchange.path, exchange.raw_path, exchange.query) == ("/b c", b"/b%20c", b"x=%C3%A9")
    assert exchange.target_path == exchange.raw_path
    assert exchange.path_marks == 0


def test_a_request_without_query_and_port(make_exchange: Any, make_door: Doors) -> None:
    exchange = make_exchange()
    assert enter(make_door(), exchange) is None
    assert (exchange.port, exchange.query) == (None, b"")


@pytest.mark.parametrize(
    "hosts",
    [
        [b"a:65536"],
        [b"[.]"],
        [b"[:::]"],
        pytest.param([], id="none"),
        pytest.param([b"a", b"b"], id="two"),
        pytest.param([b"a", b"a"], id="the same twice"),
        pytest.param([b""], id="empty"),
        pytest.param([b"a b"], id="a space"),
        pytest.param([b"a/b"], id="a slash"),
        pytest.param([b"user@a"], id="user info"),
        pytest.param([b"a,b"], id="a list"),
        pytest.param([b"a:b"], id="no port"),
        pytest.param([b"a:123456"], id="six digits"),
        pytest.param([b"a..b"], id="an empty label"),
        pytest.param([b".a"], id="a dot in front"),
        pytest.param([b"\xe9"], id="not ASCII"),
        pytest.param([b"[::1"], id="half a bracket"),
        pytest.param([b"a\n"], id="a line feed"),
    ],
)
def test_rt_host_must_be_exactly_one_and_a_host(make_exchange: Any, make_door: Doors, hosts: list[bytes]) -> None:
    found = enter(make_door(), make_exchange([(b"host", host) for host in hosts]))
    assert found in {(400, "door.bad_host"), (400, "door.bad_header")}


def test_a_request_without_any_header_has_no_host(make_exchange: Any, make_door: Doors) -> None:
    assert enter(make_door(), make_exchange([])) == (400, "door.bad_host")
    assert enter(make_door(), make_exchange([(b"accept", b"x")])) == (400, "door.bad_host")


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        (b"localhost", "localhost", None),
        (b"127.0.0.1:80", "127.0.0.1", 80),
        (b"[::1]:8080", "[::1]", 8080),
        (b"[2001:DB8::1]", "[2001:db8::1]", None),
        (b"my_service-1", "my_service-1", None),
        (b"shop.example:", "shop.example", None),
        (b"shop.example.:65535", "shop.example", 65535),
    ],
)
def test_hosts(make_exchange: Any, make_door: Doors, host: bytes, name: str, port: int | None) -> None:
    exchange = make_exchange([(b"host", host)])
    assert enter(make_door(), exchange) is None
    assert (exchange.host, exchange.port) == (name, port)


@pytest.mark.parametrize(
    "header",
    [
        (b"a b", b"x"),
        (b"", b"x"),
        (b"a\n", b"x"),
        (b"a\nb", b"x"),
        (b"a:", b"x"),
        (b"\xe9", b"x"),
        (b"a", b"x\r\ny: z"),
        (b"a", b"x\ny"),
        (b"a", b"x\x00"),
        (b"a", b"x\r"),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_header_with_what_may_not_be_in_it(
    make_exchange: Any, make_door: Doors, header: tuple[bytes, bytes], place: int
) -> None:
    headers = [HOST, (b"z", b"")]
    headers.insert(place, header)
    assert enter(make_door(), make_exchange(headers)) == (400, "door.bad_header")


@given(
    headers=st.lists(
        st.tuples(st.sampled_from([b"a", b"x-y", b"a\nb", b"", b"ab\n"]), st.binary(max_size=4)), max_size=5
    )
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_headers_are_looked_at_as_if_one_by_one(
    make_exchange: Any, make_door: Doors, headers: list[tuple[bytes, bytes]]
) -> None:
    found = enter(make_door(), make_exchange([*headers, HOST]))
    bad = any(b"\n" in name or not name or set(value) & set(b"\r\n\0") for name, value in headers)
    assert (found == (400, "door.bad_header")) is bad


@pytest.mark.parametrize("method", ["", "GET ", "GE T", "G\n", "ÄT", "X" * 33, "a/b"])
def test_a_method_that_is_no_token(make_exchange: Any, make_door: Doors, method: str) -> None:
    assert enter(make_door(), make_exchange(method=method)) == (400, "door.bad_method")


@pytest.mark.parametrize("method", ["GET", "get", "M-SEARCH", "X" * 32])
def test_methods_that_pass(make_exchange: Any, make_door: Doors, method: str) -> None:
    assert enter(make_door(), make_exchange(method=method)) is None


def test_se6_limits_on_headers(make_exchange: Any, make_door: Doors) -> None:
    too_large = (431, "door.headers_too_large")
    door = make_door(max_headers=3, max_header_bytes=40)
    assert enter(door, make_exchange([HOST, (b"a", b""), (b"b", b"")])) is None
    assert enter(door, make_exchange([HOST, (b"a", b""), (b"b", b""), (b"c", b"")])) == too_large
    # 16 bytes of host and the rest: names and values, without what separates them on the wire.
    assert enter(door, make_exchange([HOST, (b"a", b"x" * 23)])) is None
    assert enter(door, make_exchange([HOST, (b"a", b"x" * 24)])) == too_large
    assert enter(door, make_exchange([(b"host", b"x" * 41)])) == too_large


def test_the_defaults_are_those_of_the_field(make_exchange: Any, make_door: Doors) -> None:
    door = make_door()
    assert enter(door, make_exchange([HOST] + [(b"a", b"")] * 99)) is None
    assert enter(door, make_exchange([HOST] + [(b"a", b"")] * 100)) == (431, "door.headers_too_large")
    assert enter(door, make_exchange([HOST, (b"a", b"x" * 32_000)])) is None
    assert enter(door, make_exchange([HOST, (b"a", b"x" * 32_768)])) == (431, "door.headers_too_large")
    assert enter(door, make_exchange(), b"/" + b"x" * 8_191) is None
    assert enter(door, make_exchange(), b"/" + b"x" * 8_192) == (414, "door.target_too_long")


def test_the_target_is_path_and_query(make_exchange: Any, make_door: Doors) -> None:
    door = make_door(max_target=10)
    assert enter(door, make_exchange(), b"/aaaa", b"bbbbb") is None
    assert enter(door, make_exchange(), b"/aaaa", b"bbbbbb") == (414, "door.target_too_long")


@pytest.mark.parametrize(("path", "query"), [(b"/%00", b""), (b"nowhere", b""), (b"/", b"a b"), (b"/", b"#")])
def test_a_target_that_has_no_one_meaning(make_exchange: Any, make_door: Doors, path: bytes, query: bytes) -> None:
    reply = make_door().admit(make_exchange(), path, query)
    assert (reply.status, reply.reason) == (400, "door.bad_path")  # type: ignore[union-attr]


def test_slashes_are_merged_unless_told_otherwise(make_exchange: Any, make_door: Doors) -> None:
    for door, path in ((make_door(), "/a/b"), (make_door(merge_slashes=False), "/a//b")):
        exchange = make_exchange()
        enter(door, exchange, b"/a//b")
        assert exchange.path == path


@pytest.mark.parametrize(
    ("everywhere", "on_route", "passes"),
    [(0, 0, False), (SEMICOLON, 0, True), (0, SEMICOLON, True), (ENCODED_SLASH, 0, False), (0, ENCODED_SLASH, False)],
)
def test_odd_paths_pass_where_they_are_allowed(
    make_exchange: Any, make_door: Doors, everywhere: int, on_route: int, passes: bool
) -> None:
    door, exchange = make_door(allowed_marks=everywhere), make_exchange()
    assert enter(door, exchange, b"/a;b") is None
    reply = door.odd_path(exchange, on_route)
    assert (reply is None) is passes
    if reply is not None:
        assert (reply.status, reply.reason) == (400, "door.odd_path")
    enter(door, exchange, b"/plain")
    assert door.odd_path(exchange) is None


def test_a_rewritten_path_may_have_no_oddity_that_the_request_had_not(make_door: Doors) -> None:
    door = make_door()
    assert door.canonical_again(b"/a/../b", 0) == b"/b"
    assert door.canonical_again(b"/a;b", SEMICOLON) == b"/a;b"
    with pytest.raises(PathRefused, match="two readings"):
        door.canonical_again(b"/a;b", ENCODED_SLASH)
    with pytest.raises(PathRefused):
        door.canonical_again(b"a", 0)


NEW = "00000000000000000000000000000001"


@pytest.mark.parametrize(
    ("trusted", "offered", "used"),
    [
        ([], "mine", NEW),
        (["192.0.2.0/24"], "mine", NEW),
        (["203.0.113.0/24"], "mine-1_2.3", "mine-1_2.3"),
        (["203.0.113.0/24"], "x" * 128, "x" * 128),
        (["203.0.113.0/24"], "x" * 129, NEW),
        (["203.0.113.0/24"], "a b", NEW),
        (["203.0.113.0/24"], "", NEW),
        (["203.0.113.0/24"], None, NEW),
    ],
)
def test_a_request_id_is_believed_of_trusted_peers(
    make_exchange: Any, make_door: Doors, trusted: list[str], offered: str | None, used: str
) -> None:
    headers = [HOST] if offered is None else [HOST, (b"x-request-id", offered.encode())]
    exchange = make_exchange(headers, door=make_door(trust=Trust(trusted)))
    assert exchange.request_id == used
    assert exchange.request_id == used


CF = b"cf-connecting-ip"


@pytest.mark.parametrize(
    ("peer", "client", "left"),
    [
        ("10.0.0.1", "198.51.100.7", [CF, b"x-forwarded-for", b"forwarded"]),
        ("203.0.113.9", "203.0.113.9", []),
        (None, None, []),
    ],
)
@pytest.mark.parametrize("refused", [False, True])
def test_the_client_is_settled_before_anything_is_refused(
    make_exchange: Any, make_door: Doors, peer: str | None, client: str | None, left: list[bytes], refused: bool
) -> None:
    door = make_door(trust=Trust(["10.0.0.0/8"], "cf-connecting-ip"), max_headers=2 if refused else 3)
    exchange = make_exchange([HOST, (b"a", b"b"), (CF, b"198.51.100.7")], door=door, peer=peer)
    # What is counted is what came: taking one away does not make room for another.
    assert (door.admit(exchange, b"/", b"") is not None) is refused
    assert exchange.client_ip == client
    assert [name for name, _ in exchange.headers] == [b"host", b"a", *left]


def test_what_is_checked_is_the_request_as_it_came(make_exchange: Any, make_door: Doors) -> None:
    door = make_door(trust=Trust(["10.0.0.0/8"], "cf-connecting-ip"))
    # Host and length stand elsewhere once a header before them has gone.
    exchange = make_exchange([(CF, b"6.6.6.6"), (b"content-length", b"5"), HOST], door=door)
    assert door.admit(exchange, b"/", b"") is None
    assert exchange.host == "shop.example"
    bad = make_exchange([(CF, b"6.6.6.6\n"), HOST], door=door)
    assert (reply := door.admit(bad, b"/", b"")) is not None
    assert reply.reason == "door.bad_header"


class SomeBody(NoBody):
    def __init__(self) -> None:
        super().__init__()
        self.length = None


@pytest.mark.parametrize(
    ("values", "passes"),
    [
        ([b"0"], True),
        ([b"9" * 18], True),
        ([b"9" * 19], False),
        ([b"18446744073709551621"], False),
        ([b"9" * 5000], False),
        ([b"+5"], False),
        ([b"5 5"], False),
        ([b"0x5"], False),
        ([b""], False),
        ([b"5", b"x"], False),
        ([], True),
    ],
)
def test_se4_a_length_that_some_reader_could_take_for_another(
    make_exchange: Any, make_door: Doors, values: list[bytes], passes: bool
) -> None:
    exchange = make_exchange([HOST, *((b"content-length", value) for value in values)], method="POST")
    exchange.body = SomeBody()
    assert enter(make_door(), exchange) == (None if passes else (400, "door.bad_length"))


@pytest.mark.parametrize("method", ["CONNECT", "connect"])
def test_no_tunnels(make_exchange: Any, make_door: Doors, method: str) -> None:
    assert enter(make_door(), make_exchange(method=method)) == (501, "door.no_tunnel")


@pytest.mark.parametrize(("method", "passes"), [("OPTIONS", True), ("GET", False)])
def test_only_options_asks_for_the_asterisk(make_exchange: Any, make_door: Doors, method: str, passes: bool) -> None:
    found = enter(make_door(), make_exchange(method=method), b"*")
    assert found == (None if passes else (400, "door.bad_path"))


def test_what_is_remembered_is_bounded(make_exchange: Any, make_door: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    authorities: dict[bytes, Any] = {}
    monkeypatch.setattr(door_module, "_authorities", authorities)
    monkeypatch.setattr(door_module, "_KEPT", 3)
    door = make_door()
    for number in range(9):
        exchange = make_exchange([(b"host", b"h%d.example" % number)])
        assert enter(door, exchange) is None
        assert exchange.host == f"h{number}.example"
        assert 0 < len(authorities) <= 3
    assert enter(door, make_exchange([(b"host", b"%b.example" % (b"a" * 200))])) is None
    assert len(authorities) <= 3
    assert not any(len(host) > 128 for host in authorities)
