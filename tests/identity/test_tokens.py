"""Tokens of a real provider at a gateway, and at a service that somebody reaches around the gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatekit.testing import Answer, Upstream

from .gate import RUN, by_introspection, by_jwt, gate, served
from .provider import BILLING, LEDGER, ORDERS, SERVICE_KEY, Provider

pytestmark = pytest.mark.servers

MISSING = 'Bearer realm="gateway"'
INVALID = 'Bearer realm="gateway", error="invalid_token"'


@pytest.mark.parametrize("server", [RUN, "uvicorn"])
async def test_a_gateway_takes_jwts_and_opaque_tokens_and_tells_which_is_which(
    server: str, provider: Provider, tmp_path: Path
) -> None:
    methods = {**by_jwt(provider), **by_introspection(provider)}
    async with Upstream(Answer(body=b"up")) as up, gate(tmp_path, methods, up.url, server=server) as at:
        signed, opaque = provider.client_credentials(ORDERS), provider.client_credentials(LEDGER, "ledger:read")
        session = provider.login("ann")
        assert await at.says(signed) == (200, None, None)
        assert await at.says(provider.client_credentials(client=SERVICE_KEY)) == (200, None, None)
        assert await at.says(session.access) == (200, None, None)
        assert provider.count("/token/introspection") == 0
        assert await at.says(opaque) == (200, None, None)
        assert (provider.count("/token/introspection"), provider.count("/jwks")) == (1, 1)
        assert [(seen.headers.get("x-user-id"), seen.headers.get("x-scopes")) for seen in up.requests] == [
            ("service", "orders:read orders:write"),
            ("service-key", "orders:read orders:write"),
            ("ann", "orders:read orders:write"),
            ("service", "ledger:read"),
        ]
        assert all(seen.headers.get("authorization") is None for seen in up.requests)

        elsewhere = provider.client_credentials(BILLING)
        assert await at.says(elsewhere) == (401, "authn.wrong_audience", INVALID)
        head, body, signature = signed.split(".")
        flipped = signature[:10] + ("A" if signature[10] != "A" else "B") + signature[11:]
        assert await at.says(f"{head}.{body}.{flipped}") == (401, "authn.bad_signature", INVALID)
        assert await at.says("nobody-issued-this") == (401, "authn.inactive_token", INVALID)
        # What gets new tokens is none itself: the provider says that it is active, and for whom it is not.
        assert (await at.says(session.refresh))[0] == 401
        assert await at.says() == (401, "authn.missing_token", MISSING)
        assert len(up.requests) == 4


SERVICES = {"uvicorn": "embedded:api", "gunicorn": "embedded:site", "waitress": "embedded:site"}


@pytest.mark.parametrize("server", list(SERVICES))
async def test_a_call_around_the_gateway_meets_the_same_policy(server: str, provider: Provider, tmp_path: Path) -> None:
    token = provider.login("ann").access
    async with served(server, SERVICES[server], tmp_path, {"methods": by_jwt(provider)}) as service:
        answer = await service.ask(token, "/whoami", **{"X-User-Id": "root"})
        assert (answer.status_code, answer.json()) == (200, {"user": "ann", "header": "ann"}), service.tail()
        assert await service.says(None, "/whoami") == (401, "authn.missing_token", MISSING)
        elsewhere = provider.client_credentials(BILLING)
        assert await service.says(elsewhere, "/whoami") == (401, "authn.wrong_audience", INVALID)
        # What a gateway would tell it, it believes of nobody else.
        assert (await service.ask(None, "/whoami", **{"x-user-id": "ann", "x_user_id": "ann"})).status_code == 401
        if server == "uvicorn":
            # Through the gateway, which hands the token on, both check it.
            async with gate(tmp_path, by_jwt(provider, forward=True), service.url) as at:
                answer = await at.ask(token, "/whoami")
                assert (answer.status_code, answer.json()) == (200, {"user": "ann", "header": "ann"})
                assert await at.says(None, "/whoami") == (401, "authn.missing_token", MISSING)
