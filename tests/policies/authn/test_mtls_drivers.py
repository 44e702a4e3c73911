"""Client certificates through both drivers: what a server or a trusted proxy says gets in, what a client says does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import pytest
from tests.core.certificates import NOW, ORDERS, Made, made

import gatekit.asgi
import gatekit.wsgi
from gatekit.core.door import Door
from gatekit.core.peers import Trust
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import FixedPlan
from gatekit.core.policy import bound
from gatekit.drivers.asgi import AsgiDriver
from gatekit.drivers.wsgi import WsgiDriver
from gatekit.policies.authn import Authn, CertificateCaller, mtls
from gatekit.testing import FixedRandom, call, call_wsgi, test_ports

PROXY, CLIENT = "10.0.0.1", "203.0.113.9"
XFCC, RFC_9440, NGINX, VERIFY = "X-Forwarded-Client-Cert", "Client-Cert", "X-SSL-Client-Cert", "X-SSL-Client-Verify"
CERT = made(uris=(ORDERS,), dns=("orders.acme.example",), cn=("Orders",))
SPEC = Authn(mtls({"uri:spiffe://acme.example/*": CertificateCaller(roles=["r"])}))
MISSING, UNKNOWN = "authn.missing_certificate", "authn.unknown_certificate"

HeaderList = Sequence[tuple[str, str]]


class ToldIn(Trust):
    """Trust in a proxy that tells of certificates in one header."""

    __slots__ = ("certificate_header",)

    def __init__(self, header: str | None) -> None:
        super().__init__(["10.0.0.0/8"])
        self.certificate_header = None if header is None else header.lower().encode()


class Source:
    """A plan of one policy, for a driver."""

    def __init__(self, told_in: str | None) -> None:
        ports = test_ports()
        door = Door(FixedRandom(), trust=ToldIn(told_in))
        self.plan = FixedPlan(door, Pipeline([bound(SPEC, ports)], events=ports.events))


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    body = scope["user"].subject.encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def wsgi_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [environ["gatekit.identity"].subject.encode()]


async def asgi(
    told_in: str | None, headers: HeaderList, client: str | None, tls: Mapping[str, Any] | None = None
) -> str:
    """Who the app behind is told it is, or the reason of the refusal."""
    driver = AsgiDriver(Source(told_in), now=lambda: 0.0, app=asgi_app)
    extensions = {} if tls is None else {"tls": tls}
    response = await call(driver, headers=headers, client=client, scheme="https", extensions=extensions)
    return response.text if response.status == 200 else str(response.json()["code"])


def wsgi(told_in: str | None, headers: HeaderList, client: str | None, extra: Mapping[str, Any] | None = None) -> str:
    driver = WsgiDriver(Source(told_in), now=lambda: 0.0, app=wsgi_app)
    response = call_wsgi(driver, headers=headers, client=client, scheme="https", extra=extra)
    return response.text if response.status == 200 else str(response.json()["code"])


def chain(*certificates: Made) -> dict[str, Any]:
    return {"client_cert_chain": [one.pem for one in certificates], "client_cert_error": None}


TOLD: list[tuple[str, HeaderList]] = [
    (XFCC, [(XFCC, CERT.xfcc())]),
    (XFCC, [(XFCC, f'Hash={"0" * 64};Subject="CN=Orders";URI={ORDERS}')]),
    (XFCC, [(XFCC, f"URI={ORDERS}")]),
    (XFCC, [(XFCC, "URI=spiffe://acme.example/forged"), (XFCC, f"URI={ORDERS}")]),
    (XFCC, [(XFCC, f"URI=spiffe://acme.example/forged,URI={ORDERS}")]),
    (RFC_9440, [(RFC_9440, CERT.binary)]),
    (NGINX, [(NGINX, CERT.escaped), (VERIFY, "SUCCESS")]),
]


@pytest.mark.parametrize(("told_in", "headers"), TOLD, ids=range(len(TOLD)))
async def test_a_trusted_proxys_word_gets_in(told_in: str, headers: HeaderList) -> None:
    assert await asgi(told_in, headers, PROXY) == ORDERS
    assert wsgi(told_in, headers, PROXY) == ORDERS


@pytest.mark.parametrize(("told_in", "headers"), TOLD, ids=range(len(TOLD)))
@pytest.mark.parametrize("client", [CLIENT, "11.0.0.1", None])
async def test_se1_a_clients_own_word_does_not(told_in: str, headers: HeaderList, client: str | None) -> None:
    assert await asgi(told_in, headers, client) == MISSING
    assert wsgi(told_in, headers, client) == MISSING


@pytest.mark.parametrize(("told_in", "headers"), TOLD, ids=range(len(TOLD)))
async def test_se1_what_a_client_wrote_through_a_proxy_that_tells_elsewhere_does_not(
    told_in: str, headers: HeaderList
) -> None:
    """nginx passes on an x-forwarded-client-cert as it came, Envoy a Client-Cert."""
    for other in {None, XFCC, RFC_9440, NGINX} - {told_in}:
        assert await asgi(other, headers, PROXY) == MISSING
        assert wsgi(other, headers, PROXY) == MISSING


def spellings(name: str) -> list[str]:
    """The name with every mixture of marks between its words, in several cases, but for itself."""
    words = name.split("-")
    joined = [
        "".join(word + mark for word, mark in zip(words, (*marks, ""), strict=True))
        for marks in product("-_.", repeat=len(words) - 1)
    ]
    return [one for found in joined for one in (found, found.upper()) if one.lower() != name.lower()]


async def test_se1_no_spelling_gets_through_a_proxy_that_strips_only_its_own() -> None:
    for spelled in spellings(XFCC):
        assert await asgi(XFCC, [(spelled, f"URI={ORDERS}")], PROXY) == MISSING, spelled
        assert await asgi(XFCC, [(spelled, f"URI={ORDERS}")], CLIENT) == MISSING, spelled
        # Under WSGI the server has to drop what has underscores, and gunicorn does: a name with them has become ours.
        if "_" not in spelled:
            assert wsgi(XFCC, [(spelled, f"URI={ORDERS}")], PROXY) == MISSING, spelled
        assert wsgi(XFCC, [(spelled, f"URI={ORDERS}")], CLIENT) == MISSING, spelled


@pytest.mark.parametrize(
    "value",
    [
        'Subject="CN=a,URI=spiffe://acme.example/a"',
        'Subject="CN=a;URI=spiffe://acme.example/a;"',
        'Subject="CN=a\\",URI=spiffe://acme.example/a"',
        'DNS="x;URI=spiffe://acme.example/a"',
        "URI=spiffe://acme.example/a,By=spiffe://gateway",
        "URI=spiffe://acme.example/a,",
        "URI=spiffe://acme.example/a;",
        'URI="spiffe://acme.example/a',
        "URI=spiffe://acme.example/a,URI",
        "URI=spiffe://acme.example/a b",
        "Hash=0;URI=spiffe://acme.example/a",
        f'Hash={"0" * 64};Cert="{CERT.escaped}"',
        'Cert="no";URI=spiffe://acme.example/a',
        "",
    ],
    ids=range(14),
)
async def test_se1_quotes_and_commas_make_no_name_of_what_is_none(value: str) -> None:
    for answer in (await asgi(XFCC, [(XFCC, value)], PROXY), wsgi(XFCC, [(XFCC, value)], PROXY)):
        assert answer in (MISSING, UNKNOWN)


@pytest.mark.parametrize(
    "names",
    [
        {"uris": ("spiffe://acme.example/admin\0.evil",)},
        {"dns": ("a\0b",), "uris": (ORDERS,)},
        {"cn": ("a\0b",), "uris": (ORDERS,)},
    ],
    ids=["uri", "dns", "cn"],
)
async def test_se1_a_nul_in_any_name_makes_a_certificate_nobodys(names: dict[str, Any]) -> None:
    crafted = made(**names)
    assert await asgi(RFC_9440, [(RFC_9440, crafted.binary)], PROXY) == MISSING
    assert wsgi(RFC_9440, [(RFC_9440, crafted.binary)], PROXY) == MISSING
    assert await asgi(XFCC, [(XFCC, crafted.xfcc())], PROXY) == MISSING
    assert await asgi(None, [], CLIENT, chain(crafted)) == MISSING
    assert wsgi(None, [], CLIENT, {"SSL_CLIENT_CERT": crafted.pem, "SSL_CLIENT_VERIFY": "SUCCESS"}) == MISSING


async def test_what_the_server_verified_gets_in() -> None:
    assert await asgi(None, [], CLIENT, chain(CERT)) == ORDERS
    assert await asgi(XFCC, [(XFCC, "URI=spiffe://acme.example/forged")], CLIENT, chain(CERT)) == ORDERS
    assert wsgi(None, [], CLIENT, {"SSL_CLIENT_CERT": CERT.pem, "SSL_CLIENT_VERIFY": "SUCCESS"}) == ORDERS


async def test_se1_what_the_server_did_not_verify_does_not() -> None:
    assert await asgi(None, [], CLIENT, {**chain(CERT), "client_cert_error": "self-signed"}) == MISSING
    for verify in ("NONE", "FAILED:self-signed", "GENEROUS"):
        assert wsgi(None, [], CLIENT, {"SSL_CLIENT_CERT": CERT.pem, "SSL_CLIENT_VERIFY": verify}) == MISSING
    headers = [("SSL-Client-Cert", CERT.pem.replace("\n", " ")), ("SSL-Client-Verify", "SUCCESS")]
    assert wsgi(None, headers, CLIENT) == MISSING


async def test_se1_the_proxys_own_certificate_is_not_its_clients() -> None:
    assert await asgi(XFCC, [], PROXY, chain(CERT)) == MISSING
    assert wsgi(XFCC, [], PROXY, {"SSL_CLIENT_CERT": CERT.pem, "SSL_CLIENT_VERIFY": "SUCCESS"}) == MISSING


async def test_other_certificates_are_nobodys_and_old_ones_too() -> None:
    other = made(uris=("spiffe://elsewhere.example/a",))
    assert await asgi(None, [], CLIENT, chain(other)) == UNKNOWN
    old = made(uris=(ORDERS,), not_after=NOW - 1.0)
    assert await asgi(None, [], CLIENT, chain(old)) == "authn.expired_certificate"
    assert wsgi(XFCC, [(XFCC, old.xfcc())], PROXY) == "authn.expired_certificate"


async def test_as_a_middleware_of_an_app() -> None:
    ports = test_ports()
    app = gatekit.asgi.Authn(asgi_app, mtls(allow="uri:spiffe://acme.example/*"), ports=ports)
    response = await call(app, scheme="https", extensions={"tls": chain(CERT)})
    assert (response.status, response.text) == (200, ORDERS)
    assert (await call(app, scheme="https", headers=[(XFCC, f"URI={ORDERS}")])).status == 401
    plain = gatekit.wsgi.Authn(wsgi_app, mtls(allow="uri:spiffe://acme.example/*"), ports=ports)
    environ = {"SSL_CLIENT_CERT": CERT.pem, "SSL_CLIENT_VERIFY": "SUCCESS"}
    assert call_wsgi(plain, scheme="https", extra=environ).text == ORDERS
    assert call_wsgi(plain, scheme="https", headers=[(XFCC, f"URI={ORDERS}")]).status == 401


def test_a_caller_whose_certificate_was_only_told_of_has_no_mark_of_it() -> None:
    from gatekit.policies.authn.method import Verified
    from gatekit.testing import request

    door = Door(FixedRandom(), trust=ToldIn(XFCC))
    exchange = request(headers=[(XFCC, f"URI={ORDERS}")], client=PROXY, door=door)
    found = mtls(allow="uri:*").bind_to(test_ports(), "gateway", lambda identity: []).identify(exchange)
    assert isinstance(found, Verified)
    assert (found.marks, found.identity.expires, found.until) == ({"sub": ORDERS}, None, float("inf"))
