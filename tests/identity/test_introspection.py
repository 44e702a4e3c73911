"""Opaque tokens while the provider that knows them is there, is gone, and has come back with nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.drills.backend import backend
from tests.drills.load import pause, until

from .gate import by_introspection, gate
from .provider import LEDGER, SERVICE_KEY, Provider, client_key

pytestmark = pytest.mark.servers

INVALID = 'Bearer realm="gateway", error="invalid_token"'
UNAVAILABLE = (503, "authn.introspection_unavailable")


async def test_an8_an9_what_is_known_goes_on_while_the_provider_is_gone_and_the_rest_is_told_to_wait(
    own_provider: Provider, tmp_path: Path
) -> None:
    provider = own_provider
    known, unknown, more = ([provider.client_credentials(LEDGER) for _ in range(count)] for count in (8, 8, 3))
    async with backend() as url, gate(tmp_path, by_introspection(provider, timeout=1), url) as at:
        # Together: each is asked about once, however many requests come with it, and whatever the answer is.
        assert set(await asyncio.gather(*(at.status_of(token) for token in known * 5))) == {200}
        assert set(await asyncio.gather(*(at.status_of("nobody-issued-this") for _ in range(10)))) == {401}
        assert provider.count("/token/introspection") == 9
        load = at.load(known, 300).start()
        await pause(0.3)
        # Whether it says nothing or is not there is one to callers.
        provider.hang()
        assert [one[:2] for one in await asyncio.gather(*(at.says(token) for token in more))] == [UNAVAILABLE] * 3
        provider.go_on()
        provider.kill()
        for token in unknown:
            answer = await at.ask(token)
            # Not 401: nobody has said that they are no good.
            assert (answer.status_code, answer.json()["code"]) == UNAVAILABLE
            assert int(answer.headers["retry-after"]) >= 1
            assert "www-authenticate" not in answer.headers
        await pause(0.5)
        await asyncio.to_thread(provider.start)
        await load.stop()
        assert load.tally.sent > 200
        assert (load.tally.whole, load.tally.lost) == (True, []), load.tally.told()
        issued = provider.client_credentials(LEDGER)
        assert await until(15, lambda: at.now(issued) == 200), at.tail()
        # It has forgotten these, and says so.
        assert await at.says(unknown[0]) == (401, "authn.inactive_token", INVALID)


async def test_a_gateway_that_proves_itself_with_a_key_may_ask(provider: Provider, tmp_path: Path) -> None:
    """The provider takes each proof once, as RFC 7523 lets it."""
    tokens = [provider.client_credentials(LEDGER) for _ in range(6)]
    proof = {
        "client_id": SERVICE_KEY.id, "client_auth": "private_key_jwt", "assertion_key": client_key(),
        "assertion_key_id": "client-key", "assertion_audience": provider.issuer,
    }  # fmt: skip
    async with backend() as url, gate(tmp_path, by_introspection(provider, **proof), url) as at:
        assert [await at.status_of(token) for token in tokens] == [200] * 6
        assert await at.says("nobody-issued-this") == (401, "authn.inactive_token", INVALID)
