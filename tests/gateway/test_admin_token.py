"""The admin endpoints with a token, and the drain that belongs to nobody who waits for it."""

from __future__ import annotations

import asyncio
import hmac

import pytest
from tests.gateway.admin_scene import BOUND, CLOSED, LOCAL, TOKEN, Told, ask

from gatekit.gateway.admin import Admin


@pytest.fixture
def told() -> Told:
    return Told()


# -- who may ask, with a token


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ([f"Bearer {TOKEN}"], 200),
        ([f"Bearer {TOKEN}", "Bearer wrong"], 200),
        (["Bearer wrong", f"Bearer {TOKEN}"], 401),
        ([], 401),
        ([""], 401),
        (["Bearer"], 401),
        (["Bearer "], 401),
        ([TOKEN], 401),
        ([f"Basic {TOKEN}"], 401),
        ([f"Bearer {TOKEN[:-1]}"], 401),
        ([f"Bearer {TOKEN}x"], 401),
        ([f"Bearer  {TOKEN}"], 401),
        ([f"Bearer {TOKEN.upper()}"], 401),
        ([f"Bearer {TOKEN}, Bearer {TOKEN}"], 401),
    ],
    ids=str,
)
@pytest.mark.parametrize("client", [LOCAL, "192.0.2.9", None])
async def test_with_a_token_everybody_is_asked_for_it(
    told: Told, given: list[str], status: int, client: str | None
) -> None:
    answer = await ask(told, "GET", "/status", *(("Authorization", one) for one in given), token=TOKEN, client=client)
    assert answer.status == status
    assert told.calls == (["status"] if status == 200 else [])
    assert answer.header("www-authenticate") == ("Bearer" if status == 401 else None)


async def test_with_the_token_it_can_be_asked_from_anywhere(told: Told) -> None:
    headers = [("Host", "gateway.example"), ("Authorization", f"Bearer {TOKEN}")]
    assert (await ask(told, "GET", "/status", *headers, token=TOKEN, client="192.0.2.9")).status == 200


@pytest.mark.parametrize(("method", "path"), [*CLOSED, ("DELETE", "/status"), ("GET", "/drain")])
async def test_the_token_is_asked_before_anything_else(told: Told, method: str, path: str) -> None:
    assert (await ask(told, method, path, token=TOKEN)).status == 401


@pytest.mark.parametrize("path", ["/live", "/ready"])
async def test_probes_need_no_token(told: Told, path: str) -> None:
    assert (await ask(told, "GET", path, token=TOKEN, client="192.0.2.9")).status == 200


async def test_the_token_is_compared_in_constant_time(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for given in ("", "Bearer wrong", f"Bearer {TOKEN}"):
        await ask(told, "GET", "/status", ("Authorization", given), token=TOKEN)
    assert len(compared) == 3


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "fifteen-letters",
        "with spaces in between",
        "\u0441\u0435\u043a\u0440\u0435\u0442" * 3,
        "control-\x07-character",
    ],
)
def test_a_token_that_keeps_nobody_out_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="16 characters"):
        Admin(Told(), token=token)


# -- a drain belongs to nobody who waits for it


async def test_whoever_does_not_wait_is_answered_at_once(told: Told) -> None:
    told.may_end.clear()
    assert (await ask(told, "POST", "/drain?wait=false")).status == 202
    assert not told.ended.is_set()
    told.may_end.set()
    await asyncio.wait_for(told.ended.wait(), BOUND)


@pytest.mark.parametrize("target", ["/drain", "/drain?wait="])
async def test_a_caller_that_leaves_does_not_end_the_drain(told: Told, target: str) -> None:
    told.may_end.clear()
    waiting = asyncio.create_task(ask(told, "POST", target))
    while not told.calls:
        await asyncio.wait_for(_turn(), BOUND)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    told.may_end.set()
    await asyncio.wait_for(told.ended.wait(), BOUND)


async def _turn() -> None:
    """One turn of the loop."""
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    await turned
