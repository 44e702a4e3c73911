"""TLS to real servers: names, trust, and a certificate of our own where the server asks for one."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trustme

from gatekit.testing import call

from .origins import Origin

pytestmark = pytest.mark.servers


def refused(response: Any) -> None:
    assert (response.status, response.json()["code"]) == (502, "upstream.tls_failed")


async def test_the_name_is_asked_for_and_picks_the_certificate(
    origin: Origin, gateway: Any, tls: ssl.SSLContext
) -> None:
    """nginx shows another certificate to whoever names no host."""
    app = gateway(origin.url("tls"), tls_context=lambda: tls)
    for _ in range(2):
        response = await call(app, "GET", "/hello")
        assert (response.status, response.body) == (200, b"hello")
        assert response.header("x-server-name") == "localhost"


async def test_another_name_than_the_certificates_is_refused(nginx: Origin, gateway: Any, tls: ssl.SSLContext) -> None:
    url = nginx.url("tls").replace("localhost", "127.0.0.1")
    refused(await call(gateway(url, tls_context=lambda: tls), "GET", "/hello"))


async def test_an_authority_that_nobody_knows_is_refused(origin: Origin, gateway: Any) -> None:
    refused(await call(gateway(origin.url("tls")), "GET", "/hello"))


async def test_a_server_that_speaks_no_tls_is_refused(origin: Origin, gateway: Any, tls: ssl.SSLContext) -> None:
    url = origin.url("plain").replace("http:", "https:")
    refused(await call(gateway(url, tls_context=lambda: tls), "GET", "/hello"))


async def test_a_client_certificate_is_shown_where_the_server_asks(
    origin: Origin, gateway: Any, tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    authority.issue_cert("gateway.test", common_name="gateway.test").configure_cert(tls)
    app = gateway(origin.url("mtls"), tls_context=lambda: tls)
    for _ in range(2):
        response = await call(app, "GET", "/hello")
        assert (response.status, response.body) == (200, b"hello")
        assert "gateway.test" in (response.header("x-client-name") or "")


async def test_nginx_refuses_who_shows_no_certificate(nginx: Origin, gateway: Any, tls: ssl.SSLContext) -> None:
    response = await call(gateway(nginx.url("mtls"), tls_context=lambda: tls), "GET", "/hello")
    assert (
        response.status,
        response.header(
            "server",
        )
        is not None,
    ) == (400, True)


async def test_caddy_refuses_who_shows_no_certificate(caddy: Origin, gateway: Any, tls: ssl.SSLContext) -> None:
    """Caddy ends the handshake, which with TLS 1.3 the client learns only when it reads."""
    response = await call(gateway(caddy.url("mtls"), tls_context=lambda: tls), "GET", "/hello")
    assert response.status == 502
    assert response.json()["code"] in ("upstream.closed", "upstream.tls_failed")


async def test_a_certificate_of_another_authority_is_refused(origin: Origin, gateway: Any, tls: ssl.SSLContext) -> None:
    trustme.CA().issue_cert("gateway.test", common_name="gateway.test").configure_cert(tls)
    response = await call(gateway(origin.url("mtls"), tls_context=lambda: tls), "GET", "/hello")
    assert response.status in (400, 502)
    assert response.body != b"hello"
