"""The provider's keys: replaced under load, not to be had, and asked for by tokens that nobody signed."""

from __future__ import annotations

import asyncio
import json
import secrets
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from tests.drills.backend import backend
from tests.drills.load import pause, until

from .gate import Service, by_jwt, gate
from .provider import Provider, claims_of, header_of

pytestmark = pytest.mark.servers


def forged(token: str, count: int) -> list[str]:
    """Tokens with the claims of this one, each of a key that there is not."""
    _, claims, signature = token.split(".")

    def header() -> str:
        text = json.dumps({"alg": "RS256", "typ": "at+jwt", "kid": secrets.token_hex(8)})
        return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    return [f"{header()}.{claims}.{signature}" for _ in range(count)]


async def new_kid(at: Service, provider: Provider, count: int) -> list[int]:
    """What so many tokens get whose key nobody here has seen, all at once."""
    tokens = [provider.client_credentials() for _ in range(count)]
    return await asyncio.gather(*(at.status_of(token) for token in tokens))


async def test_an5_keys_are_replaced_under_load_and_nobody_notices(own_provider: Provider, tmp_path: Path) -> None:
    provider = own_provider
    before = [provider.client_credentials() for _ in range(50)]
    # Nothing is remembered of a token: each request asks for its key.
    async with backend() as url, gate(tmp_path, by_jwt(provider, cache=0), url) as at:
        assert await at.status_of(before[0]) == 200
        assert provider.count("/jwks") == 1
        load = at.load(before, 300).start()
        await pause(0.5)
        # Of another kind than the one before.
        provider.keys("publish", "ES256")
        await pause(0.3)
        provider.keys("sign")
        # The first requests with the new key come while it is fetched, as do those with the old one.
        assert await new_kid(at, provider, 20) == [200] * 20
        assert provider.count("/jwks") == 2
        after = at.load([provider.client_credentials() for _ in range(50)], 300).start()
        await pause(0.5)
        provider.keys("drop")
        await pause(0.5)
        await asyncio.gather(load.stop(), after.stop())
        assert header_of(before[0]) == {"alg": "RS256", "typ": "at+jwt", "kid": "key-1"}
        assert header_of(provider.client_credentials()) == {"alg": "ES256", "typ": "at+jwt", "kid": "key-2"}
        for tally in (load.tally, after.tally):
            assert (tally.whole, tally.lost) == (True, []), tally.told()
        assert load.tally.sent > 400
        assert provider.count("/jwks") == 2


@pytest.mark.timeout(120)
async def test_an7_a_provider_that_is_gone_takes_no_jwt_with_it(own_provider: Provider, tmp_path: Path) -> None:
    provider, state = own_provider, tmp_path / "state"
    tokens = [provider.client_credentials() for _ in range(40)]
    fresh = [provider.client_credentials() for _ in range(3)]
    async with backend() as url:
        async with gate(tmp_path, by_jwt(provider, cache=0), url, state=state) as at:
            assert await at.status_of(tokens[0]) == 200
            load = at.load(tokens, 300).start()
            await pause(0.3)
            provider.kill()
            # A fetch that fails takes nothing away; of a key that nobody knows nobody can tell.
            assert await at.status_of(*forged(tokens[0], 1)) == 503
            await pause(0.5)
            assert await at.status_of(fresh[0]) == 200
            await asyncio.to_thread(provider.start)
            await pause(0.5)
            assert await at.status_of(provider.client_credentials()) == 200
            await load.stop()
            assert (load.tally.whole, load.tally.lost) == (True, []), load.tally.told()
            assert await until(10, lambda: list(state.glob("jwks-*")))
        provider.kill()
        # A gateway that never saw the provider: it has what another one kept.
        async with gate(tmp_path, by_jwt(provider), url, state=state) as at:
            assert await at.status_of(fresh[1]) == 200
        async with gate(tmp_path, by_jwt(provider), url) as at:
            answer = await at.ask(fresh[2])
            assert (answer.status_code, answer.json()["code"]) == (503, "authn.keys_unavailable")
            assert int(answer.headers["retry-after"]) >= 1
            provider.start()
            assert await until(15, lambda: at.now(fresh[2]) == 200), at.tail()


async def test_an6_ten_thousand_keys_that_there_are_not_cost_one_fetch(provider: Provider, tmp_path: Path) -> None:
    good = [provider.client_credentials() for _ in range(20)]
    assert claims_of(good[0])["aud"] == "orders"
    async with backend() as url, gate(tmp_path, by_jwt(provider), url) as at:
        assert await at.status_of(good[0]) == 200
        flood = at.load(forged(good[0], 10_000), 0, connections=8)
        honest = at.load(good, 100).start()
        loop = asyncio.get_running_loop()
        began = loop.time()
        flood.start()
        assert await until(40, lambda: flood.tally.sent >= 10_000)
        await flood.stop()
        took = loop.time() - began
        await honest.stop()
        assert set(flood.tally.statuses) == {401}
        assert flood.tally.statuses[401] >= 10_000
        assert (honest.tally.whole, honest.tally.lost) == (True, []), honest.tally.told()
        # One for the first token, and one for each half minute that the flood goes on.
        assert provider.count("/jwks") <= 2 + took // 30
