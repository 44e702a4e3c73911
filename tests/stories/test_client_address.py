"""Stories of the client's address behind a CDN or a balancer that tells it in a header of its own.

Played under ASGI and under WSGI: what policies see, what is limited, and what the app or the upstream behind gets.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekit import Cluster, Gateway, RateLimit, RequestHeaders, Route, Telemetry
from gatekit.asgi import Policies as AsgiPolicies
from gatekit.core.exchange import Exchange
from gatekit.core.headers import fold
from gatekit.core.peers import parse_address
from gatekit.core.policy import Spec
from gatekit.errors import ConfigRefused
from gatekit.gateway.loop_thread import SHARED
from gatekit.testing import Log, Probe, TestResponse, call, call_wsgi, test_ports
from gatekit.wsgi import Policies as WsgiPolicies

CDN = "10.0.0.1"
STRANGER = "203.0.113.9"
CLIENT = "198.51.100.7"
TOLD: dict[str, Any] = {"trusted_proxies": ["10.0.0.0/8"], "client_ip_header": "CF-Connecting-IP"}


def seeing(found: list[Any]) -> Callable[[Log], list[Spec]]:
    """A policy that notes the client's address and every header that could tell another."""

    def see(exchange: Exchange) -> None:
        found.append((exchange.client_ip, [value for name, value in exchange.headers if b"6.6.6.6" in value]))

    return lambda log: [Probe("a", log, decide=see)]


@pytest.mark.parametrize("spelled", ["cf-connecting-ip", "CF_Connecting_IP", "cf_connecting_ip", "CF-CONNECTING-IP"])
async def test_a_stranger_is_not_believed_and_nobody_sees_what_it_says(stage: Any, spelled: str) -> None:
    found: list[Any] = []
    played = await stage.play(seeing(found), options=TOLD, client=STRANGER, headers={spelled: "6.6.6.6"})
    assert found == [(STRANGER, [])]
    (seen,) = played.seen
    assert not [name for name, _ in seen["headers"] if fold(name) == b"cf-connecting-ip"]


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        pytest.param([("cf-connecting-ip", CLIENT)], CLIENT, id="told"),
        pytest.param([("cf-connecting-ip", "[2001:db8::7]:443")], "2001:db8::7", id="told with a port"),
        pytest.param([("cf-connecting-ip", f"::ffff:{CLIENT}")], CLIENT, id="told as mapped"),
        pytest.param([("cf-connecting-ip", CLIENT), ("x-forwarded-for", "6.6.6.6")], CLIENT, id="another chain"),
        pytest.param([("x-forwarded-for", "6.6.6.6")], CDN, id="missing"),
        pytest.param([("cf-connecting-ip", "6.6.6.6"), ("cf-connecting-ip", CLIENT)], CDN, id="doubled"),
        pytest.param([("cf-connecting-ip", f"6.6.6.6, {CLIENT}")], CDN, id="a list"),
        pytest.param([("cf-connecting-ip", "6.6.6.6%")], CDN, id="malformed"),
    ],
)
async def test_a_trusted_peer_tells_the_client_or_is_it(
    stage: Any, headers: list[tuple[str, str]], client: str
) -> None:
    found: list[Any] = []
    played = await stage.play(seeing(found), options=TOLD, client=CDN, headers=headers)
    assert found == [(client, [])]
    (seen,) = played.seen
    told = dict(seen["headers"])
    assert told.get(b"x-forwarded-for") == (None if client == CDN else client.encode())
    assert b"6.6.6.6" not in b" ".join(told.values())


async def test_a_policy_behind_one_that_rewrites_finds_the_same_client(stage: Any) -> None:
    """Behind it the request is read anew, by a driver of its own."""
    found: list[Any] = []

    def policies(log: Log) -> list[Spec]:
        return [RequestHeaders(set={"x-a": "1"}), *seeing(found)(log)]

    headers = {"cf-connecting-ip": CLIENT, "x-forwarded-for": "6.6.6.6"}
    await stage.play(policies, options=TOLD, client=CDN, headers=headers)
    assert found == [(CLIENT, [])]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the headers that came."""
    seen = json.dumps([(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(seen))]})
    await send({"type": "http.response.body", "body": seen})


Ask = Callable[..., Any]


@pytest.fixture(params=["asgi", "wsgi"])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Asks one gateway over one of the two interfaces."""
    gateway = Gateway(
        policies=[Telemetry(), RateLimit("1/minute", by="client_ip")],
        routes=[Route("/", to="echo"), Route("/inside", to="echo", client=["198.51.100.0/24"])],
        clusters={"echo": Cluster(app=echo)},
        ports=test_ports(),
        **TOLD,
    )

    async def go(target: str = "/", **given: Any) -> TestResponse:
        if request.param == "asgi":
            return await call(gateway, "GET", target, **given)
        return call_wsgi(gateway.wsgi(), "GET", target, **given)

    yield go
    SHARED.stop()


@pytest.mark.parametrize(
    ("peer", "header", "status"),
    [(CDN, CLIENT, 200), (CDN, "192.0.2.3", 404), (CDN, "no address", 404), (STRANGER, CLIENT, 404)],
)
async def test_a_route_for_some_clients_is_matched_by_it(ask: Ask, peer: str, header: str, status: int) -> None:
    assert (await ask("/inside", client=peer, headers={"cf-connecting-ip": header})).status == status


@pytest.mark.parametrize("trusted", [[], ["10.0.0.0/8"]], ids=["nobody is trusted", "somebody is"])
async def test_a_peer_on_a_socket_for_both_families_is_told_as_ipv4(
    trusted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(
        policies=[Telemetry()],
        routes=[Route("/*", to="echo")],
        clusters={"echo": Cluster(app=echo)},
        trusted_proxies=trusted,
        ports=test_ports(),
    )
    with caplog.at_level(logging.INFO, "gatekit.access"):
        answer = await call(gateway, "GET", "/", client=f"::ffff:{STRANGER}")
    assert json.loads(caplog.messages[-1])["client_ip"] == STRANGER
    told = dict(json.loads(answer.body))
    assert told["x-forwarded-for"] == STRANGER
    assert f"for={STRANGER};" in told["forwarded"]


async def test_a_policy_that_drops_the_headers_leaves_the_client(caplog: pytest.LogCaptureFixture) -> None:
    """The access line is written last, when the headers that told the client may be gone."""
    gateway = Gateway(
        policies=[Telemetry(), RequestHeaders(remove=["x-forwarded-for"])],
        routes=[Route("/*", to="app")],
        clusters={"app": Cluster(app=echo)},
        trusted_proxies=["10.0.0.0/8"],
        ports=test_ports(),
    )
    with caplog.at_level(logging.INFO, "gatekit.access"):
        await call(gateway, "GET", "/", client=CDN, headers={"x-forwarded-for": CLIENT})
    assert json.loads(caplog.messages[-1])["client_ip"] == CLIENT


async def test_limits_lines_and_upstreams_are_told_the_same_client(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gatekit.access"):
        first = await ask(client=CDN, headers={"cf-connecting-ip": CLIENT})
        again = await ask(client="10.0.0.2", headers={"cf-connecting-ip": CLIENT})
        other = await ask(client=CDN, headers={"cf-connecting-ip": "198.51.100.8"})
        stranger = await ask(client=STRANGER, headers={"cf-connecting-ip": "198.51.100.9"})
        as_before = await ask(client=STRANGER, headers={"cf-connecting-ip": "198.51.100.10"})
    assert [got.status for got in (first, again, other, stranger, as_before)] == [200, 429, 200, 200, 429]
    lines = [json.loads(record.message)["client_ip"] for record in caplog.records if record.name == "gatekit.access"]
    assert lines == [CLIENT, CLIENT, "198.51.100.8", STRANGER, STRANGER]
    told = dict(first.json())
    assert told["x-forwarded-for"] == f"{CLIENT}, {CDN}"
    assert told["forwarded"].startswith(f"for={CLIENT}, for={CDN};")
    assert told["cf-connecting-ip"] == CLIENT
    unbelieved = dict(stranger.json())
    assert unbelieved["x-forwarded-for"] == STRANGER
    assert "cf-connecting-ip" not in unbelieved


def test_it_is_refused_without_anybody_to_believe() -> None:
    with pytest.raises(ConfigRefused, match=r"client_ip_header: .* trusted_proxies"):
        Gateway(client_ip_header="cf-connecting-ip")


_VALUES = st.ip_addresses().map(str) | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
_LINES = st.lists(
    st.tuples(st.sampled_from(["cf-connecting-ip", "cf_connecting_ip", "x-forwarded-for", "x-real-ip"]), _VALUES),
    max_size=4,
)


@pytest.mark.parametrize("driver", ["asgi", "wsgi"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lines=_LINES, peer=st.sampled_from([CDN, STRANGER, "2001:db8::1"]))
async def test_whatever_is_sent(driver: str, lines: list[tuple[str, str]], peer: str) -> None:
    found: list[Any] = []
    (spec,) = seeing(found)([])
    if driver == "asgi":
        await call(AsgiPolicies(echo, spec, ports=test_ports(), **TOLD), "GET", client=peer, headers=lines)
    else:
        call_wsgi(WsgiPolicies(answer, spec, ports=test_ports(), **TOLD), "GET", client=peer, headers=lines)
    ((client, _),) = found
    if peer != CDN:
        assert client == peer
    else:
        told = {str(parse_address(value)) for name, value in lines if fold(name.encode()) == b"cf-connecting-ip"}
        assert client in {CDN, *told}


def answer(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return []
