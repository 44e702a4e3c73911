"""The ports of a running process."""

from __future__ import annotations

import os

import pytest

from gatekit.errors import StoreUnavailable
from gatekit.gateway import system
from gatekit.gateway.system import SystemFetch, SystemRandom, system_ports


@pytest.mark.parametrize("size", [1, 16, 32])
def test_tokens_have_their_size_and_differ(size: int) -> None:
    tokens = [SystemRandom.token(size) for _ in range(600)]
    assert {len(token) for token in tokens} == {size}
    assert size == 1 or len(set(tokens)) == 600


def test_a_forked_child_does_not_give_out_its_parents_tokens() -> None:
    SystemRandom.token(16)
    left = list(system._tokens)
    assert left
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, SystemRandom.token(16))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 16) not in left
    os.close(reading)
    os.close(writing)


async def test_se9_fetching_is_guarded() -> None:
    fetch = system_ports().fetch
    assert isinstance(fetch, SystemFetch)
    with pytest.raises(StoreUnavailable, match="loopback"):
        await fetch("GET", "https://127.0.0.1/keys")
    await fetch.aclose()
    await SystemFetch().aclose()
