"""Revocation: published once, in force at every gateway, whatever becomes of the store; and a session from login to end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.drills.backend import backend
from tests.drills.load import pause, until

from gatekit.core.ports import Ports
from gatekit.gateway.system import SystemClock, SystemRandom
from gatekit.stores import SystemStores

from .gate import by_jwt, gate, valkey
from .provider import Denied, Provider, claims_of

pytestmark = pytest.mark.servers

INVALID = 'Bearer realm="gateway", error="invalid_token"'
REVOKED = (401, "authn.revoked", INVALID)


async def by_command(store: str, what: str) -> None:
    """Revoke it by `gatekit revoke`, a process of its own, to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gatekit.cli", "revoke", "--store", store, "--for", "1h", what,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def in_python(store: str, **what: str) -> None:
    """Revoke it as a service would that hears of logouts."""
    opened: Any = SystemStores().revocations(store, Ports(clock=SystemClock(), random=SystemRandom()))
    await opened.revoke(until=time.time() + 3600, **what)
    await opened.aclose()


@pytest.mark.timeout(120)
async def test_an10_what_is_revoked_is_refused_everywhere_within_a_second(provider: Provider, tmp_path: Path) -> None:
    ann, bob = (provider.login(name).access for name in ("ann", "bob"))
    state = [tmp_path / "state-0", tmp_path / "state-1"]
    loop = asyncio.get_running_loop()
    async with backend() as url:
        with valkey(tmp_path) as (store, server):
            async with (
                gate(tmp_path, by_jwt(provider), url, revocations=store, state=state[0]) as first,
                gate(tmp_path, by_jwt(provider), url, revocations=store, state=state[1]) as second,
            ):
                for at in (first, second):
                    # They are among the tokens that were verified a moment ago.
                    assert [await at.status_of(token) for token in (ann, bob)] == [200] * 2
                loads = [at.load([bob], 100).start() for at in (first, second)]
                # Ids may begin with a hyphen, so they stand behind their option's sign.
                await by_command(store, f"--jti={claims_of(ann)['jti']}")
                began = loop.time()
                assert await until(5, lambda: first.now(ann) == second.now(ann) == 401)
                assert loop.time() - began <= 1.0
                assert [await at.says(ann) for at in (first, second)] == [REVOKED] * 2
                # A list that is not empty any more is written down within seconds.
                assert await until(15, lambda: all(list(place.glob("revocations-*")) for place in state))

                os.killpg(server.process.pid, signal.SIGKILL)
                server.process.wait()
                await pause(0.5)
                assert [await at.says(ann) for at in (first, second)] == [REVOKED] * 2
                for load in loads:
                    tally = await load.stop()
                    assert (tally.whole, tally.lost) == (True, []), tally.told()
            # One that starts without the store has the list that it kept.
            async with gate(tmp_path, by_jwt(provider), url, revocations=store, state=state[0]) as at:
                assert await at.says(ann) == REVOKED
                assert await at.status_of(bob) == 200


async def test_a_session_from_its_login_to_its_end(provider: Provider, tmp_path: Path) -> None:
    async with backend() as url:
        with valkey(tmp_path) as (store, _):
            async with gate(tmp_path, by_jwt(provider, leeway=0), url, revocations=store) as at:
                assert await at.says() == (401, "authn.missing_token", 'Bearer realm="gateway"')

                other = provider.login("ann")
                assert await at.says(other.access) == (200, None, None)
                provider.let_live(access=3)
                first = provider.login("ann")
                assert await at.says(first.access) == (200, None, None)
                assert await until(10, lambda: at.now(first.access) == 401)
                assert await at.says(first.access) == (401, "authn.expired", INVALID)

                provider.let_live(access=600)
                second = provider.refresh(first.refresh)
                assert await at.says(second.access) == (200, None, None)
                third = provider.refresh(second.refresh)
                assert await at.says(third.access) == (200, None, None)

                sid = provider.revoke_session(second.access)
                # To the provider it has ended, and nothing new comes of it; what was issued is good until somebody
                # tells the gateways.
                with pytest.raises(Denied, match="invalid_grant"):
                    provider.refresh(third.refresh)
                assert await at.status_of(third.access) == 200
                await in_python(store, sid=sid)
                assert await until(5, lambda: at.now(third.access) == 401)
                for one in (second, third):
                    assert await at.says(one.access) == REVOKED
                # The same user's other session goes on.
                assert await at.says(other.access) == (200, None, None)
