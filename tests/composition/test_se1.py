"""SE1: what only a proxy can know of a client, no client says: neither an app behind a middleware nor an upstream sees it."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

import gatekit.asgi
import gatekit.wsgi
from gatekit import SecurityHeaders
from gatekit.core.headers import fold
from gatekit.core.peers import Trust
from gatekit.testing import call, call_wsgi, request, test_ports
from gatekit.upstream.forward import forward_headers

NAMES = [
    "x-forwarded-client-cert", "client-cert", "client-cert-chain", "x-ssl-client-cert", "x-ssl-client-verify", "x-ssl-anything",
    "ssl-client-cert", "ssl-client-verify", "ssl-client-subject-dn", "x-forwarded-tls-client-cert", "x-forwarded-for",
    "x-forwarded-proto", "x-forwarded-host", "x-forwarded-anything", "forwarded", "x-real-ip",
]  # fmt: skip
CERTIFICATES = NAMES[:10]
PROXY, CLIENT = "10.0.0.1", "203.0.113.9"


def spellings(name: str) -> list[str]:
    words = name.split("-")
    joined = (
        "".join(map("".join, zip(words, (*marks, ""), strict=True))) for marks in product("-_.", repeat=len(words) - 1)
    )
    return sorted({spelled for one in joined for spelled in (one, one.title())})


async def seen_by(lines: list[tuple[str, str]], peer: str, **options: Any) -> tuple[list[str], list[str], list[str]]:
    """The values with `forged` in them that reach an ASGI app, a WSGI app, and an upstream."""
    asgi: list[str] = []
    wsgi: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asgi.extend(name.decode() for name, value in scope["headers"] if b"forged" in value)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def plain(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        wsgi.extend(name for name, value in environ.items() if name.startswith("HTTP_") and "forged" in value)
        start_response("200 OK", [])
        return [b""]

    ports = test_ports()
    await call(gatekit.asgi.Policies(app, SecurityHeaders(), ports=ports, **options), headers=lines, client=peer)
    call_wsgi(gatekit.wsgi.Policies(plain, SecurityHeaders(), ports=ports, **options), headers=lines, client=peer)
    door = gatekit.asgi.Policies(app, SecurityHeaders(), ports=ports, **options).options.door(ports)
    sent = forward_headers(request(headers=lines, client=peer, door=door), b"up")
    return asgi, wsgi, [name.decode() for name, value in sent if b"forged" in value]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trusted", [(), ("10.0.0.0/8",)], ids=["nobody", "others"])
async def test_se1_from_a_peer_that_is_not_trusted_nothing_of_it_is_seen(name: str, trusted: tuple[str, ...]) -> None:
    lines = [(spelled, "forged") for spelled in spellings(name)][:90]
    assert await seen_by(lines, CLIENT, trusted_proxies=trusted) == ([], [], [])


@pytest.mark.parametrize("name", NAMES)
async def test_a_trusted_peers_word_goes_on(name: str) -> None:
    asgi, wsgi, upstream = await seen_by([(name, "forged")], PROXY, trusted_proxies=["10.0.0.0/8"])
    assert [fold(one.encode()) for one in asgi] == [name.encode()]
    assert wsgi == ["HTTP_" + name.upper().replace("-", "_")]
    assert name in upstream


@pytest.mark.parametrize(
    ("own", "kept"),
    [
        ("x-forwarded-client-cert", {"x-forwarded-client-cert"}),
        ("client-cert", {"client-cert", "client-cert-chain"}),
        ("x-ssl-client-cert", {"x-ssl-client-cert", "x-ssl-client-verify"}),
        ("ssl-client-cert", {"ssl-client-cert", "ssl-client-verify"}),
    ],
)
async def test_se1_where_a_proxy_tells_of_certificates_in_one_header_the_others_are_the_clients(
    own: str, kept: set[str]
) -> None:
    options: Any = {"trusted_proxies": ["10.0.0.0/8"], "client_cert_header": own}
    for name in CERTIFICATES:
        asgi, wsgi, upstream = await seen_by([(name, "forged")], PROXY, **options)
        assert (bool(asgi), bool(wsgi), bool(upstream)) == ((name in kept),) * 3, name
    asgi, _, upstream = await seen_by(
        [("x-forwarded-for", "forged"), ("x-forwarded-proto", "forged")], PROXY, **options
    )
    assert len(asgi) == len(upstream) == 2


async def test_what_an_outer_middleware_says_is_no_clients_word() -> None:
    from gatekit import RequestHeaders

    seen: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(value for name, value in scope["headers"] if name == b"x-forwarded-prefix")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    class Between:
        """Keeps the two from being run as one."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, send)

    inner = gatekit.asgi.Policies(app, SecurityHeaders(), ports=test_ports())
    outer = gatekit.asgi.Policies(
        Between(inner), RequestHeaders(set={"X-Forwarded-Prefix": "/ours"}), ports=test_ports()
    )
    await call(outer, headers=[("X-Forwarded-Prefix", "/forged")])
    assert seen == [b"/ours"]


def test_a_certificate_header_that_nobody_is_trusted_to_send_is_refused() -> None:
    with pytest.raises(ValueError, match="believed from nobody"):
        Trust((), None, "client-cert")
    with pytest.raises(ValueError, match="there are x-forwarded-client-cert"):
        Trust(["10.0.0.0/8"], None, "x-forwarded-for")
