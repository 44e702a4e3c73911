"""What holds for every store of revocations: each one in the table is run through this by being there."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.servers.valkey import Valkey

from gatekit.mechanisms.denylist import LEEWAY, DenylistFull
from gatekit.mechanisms.revocation import RevocationRefused
from gatekit.stores import REVOCATIONS

from .conftest import TlsFront
from .scene import ShiftedClock, at_work, opened, told, until

pytestmark = pytest.mark.servers

ALONE = {"memory"}
"""Stores that are shared with nobody: the other instance is the same."""

Case = Callable[["World"], Awaitable[None]]
CASES: list[Case] = []


def case(function: Case) -> Case:
    CASES.append(function)
    return function


class World:
    """Two instances on one store, and a clock for both."""

    def __init__(self, scheme: str, url: str) -> None:
        self.scheme = scheme
        self.url = url
        self.clock = ShiftedClock()
        self.one = opened(url, self.clock)
        self.other = self.one if scheme in ALONE else opened(url, self.clock)
        self.stores = [self.one] if scheme in ALONE else [self.one, self.other]

    def again(self, options: str = "") -> Any:
        """Another instance."""
        url = self.url + ("" if not options else f"{'&' if '?' in self.url else '?'}{options}")
        return opened(url, self.clock)

    async def revoke(self, **words: Any) -> None:
        await told(self.one.revoke(**{"until": self.clock.wall() + 600, **words}))

    async def restore(self, **words: Any) -> bool:
        return bool(await told(self.one.restore(**words)))

    async def everywhere(self, claims: dict[str, Any], reason: str | None) -> None:
        """Until both instances say so."""
        await until(lambda: all(store.revoked(claims) == reason for store in self.stores))


@pytest_asyncio.fixture
async def url_of(tmp_path: Path, valkey: Valkey, redis_url: str, part: str, tls_front: TlsFront) -> Any:
    """Where a store of that scheme is to be had. A new scheme needs a line here, and nothing else."""

    async def rediss() -> str:
        await tls_front.start()
        return tls_front.url(part)

    async def find(scheme: str) -> str:
        if scheme == "rediss":
            return await rediss()
        return {"memory": "memory:", "file": f"file://{tmp_path}/revoked.jsonl", "redis": redis_url}[scheme]

    return find


@case
async def any_claim(world: World) -> None:
    for kind in ("jti", "sub", "sid", "client_id", "tenant"):
        await world.revoke(**{kind: f"value of {kind}"})
    for kind in ("jti", "sub", "sid", "client_id", "tenant"):
        await world.everywhere({kind: f"value of {kind}", "iat": 1}, kind)
        assert world.one.revoked({kind: "another"}) is None
        assert world.one.revoked({kind: 7}) is None


@case
async def within_an_issuer(world: World) -> None:
    await world.revoke(sub="ann", iss="https://a.example")
    await world.everywhere({"sub": "ann", "iss": "https://a.example"}, "sub")
    assert world.other.revoked({"sub": "ann", "iss": "https://b.example"}) is None
    assert world.other.revoked({"sub": "ann"}) is None


@case
async def issued_before(world: World) -> None:
    now = int(time.time())
    await world.revoke(sub="ann", issued_before=now)
    await world.revoke(iss="https://a.example", issued_before=now)
    await world.everywhere({"sub": "ann", "iat": now - 1}, "issued_before")
    await world.everywhere({"iss": "https://a.example", "iat": now - 1}, "issued_before")
    assert world.other.revoked({"sub": "ann", "iat": now}) is None
    assert world.other.revoked({"sub": "ann"}) == "issued_before"
    await world.revoke(everything=True, issued_before=now)
    await world.everywhere({"jti": "whose?", "iat": now - 1}, "issued_before")
    assert world.other.revoked({"jti": "whose?", "iat": now + 1}) is None


@case
async def text_of_any_kind(world: World) -> None:
    for text in ("é", "\ud800", "a\nb", "\x00", "x" * 1024, "{}", "'; --", "😀"):
        await world.revoke(jti=text, why=text[:100])
    for text in ("é", "\ud800", "a\nb", "\x00", "x" * 1024, "{}", "'; --", "😀"):
        await world.everywhere({"jti": text}, "jti")
    assert world.other.revoked({"jti": "a"}) is None


@case
async def taken_back(world: World) -> None:
    now = int(time.time())
    await world.revoke(sub="ann")
    await world.revoke(sub="ann", issued_before=now)
    await world.everywhere({"sub": "ann", "iat": now + 5}, "sub")
    assert await world.restore(sub="ann")
    await world.everywhere({"sub": "ann", "iat": now + 5}, None)
    assert world.one.revoked({"sub": "ann", "iat": now - 5}) == "issued_before"
    assert not await world.restore(sub="ann")
    assert not await world.restore(sub="ann", issued_before=now - 1)
    assert not await world.restore(sub="ann", iss="https://a.example")
    assert not await world.restore(jti="never heard of")
    await world.revoke(sub="ann")
    await world.everywhere({"sub": "ann", "iat": now + 5}, "sub")


@case
async def a_shorter_time_takes_nothing_away(world: World) -> None:
    now = world.clock.wall()
    await world.revoke(jti="a", until=now + 1000)
    await world.revoke(jti="a", until=now + 10)
    await world.revoke(jti="b", until=now + 10)
    await world.everywhere({"jti": "b"}, "jti")
    await world.everywhere({"jti": "a"}, "jti")
    world.clock.shift = 20 + LEEWAY
    assert world.one.revoked({"jti": "a"}) == world.other.revoked({"jti": "a"}) == "jti"
    assert world.one.revoked({"jti": "b"}) is world.other.revoked({"jti": "b"}) is None


@case
async def an_end(world: World) -> None:
    await world.revoke(jti="a", until=world.clock.wall() + 60)
    await world.revoke(jti="stays", until=None)
    await world.everywhere({"jti": "stays"}, "jti")
    await world.everywhere({"jti": "a"}, "jti")
    world.clock.shift = 60 + LEEWAY - 2
    assert world.other.revoked({"jti": "a"}) == "jti"
    world.clock.shift = 60 + LEEWAY + 400
    for store in world.stores:
        assert store.revoked({"jti": "a"}) is None
        for job in store.jobs():
            if job.key[-1] == "expire" or world.scheme == "memory":
                await job.run()
        assert store.status()["entries"] == 1
    assert world.other.revoked({"jti": "stays"}) == "jti"


@case
async def words_that_make_no_sense(world: World) -> None:
    for words in ({}, {"jti": ""}, {"jti": "a", "sub": "b"}, {"everything": True}, {"jti": "a", "until": 1}):
        with pytest.raises(RevocationRefused):
            await world.revoke(**words)
    with pytest.raises(RevocationRefused):
        await world.restore(everything=True)
    assert world.one.status()["entries"] == 0


@case
async def a_full_list(world: World) -> None:
    small = world.again("max_entries=2")
    later = world.clock.wall() + 600
    async with at_work(small):
        await told(small.revoke(jti="a", until=later))
        await told(small.revoke(jti="b", until=later))
        with pytest.raises(DenylistFull, match=r"all there is room for|all it may have"):
            await told(small.revoke(jti="c", until=later))
        assert small.revoked({"jti": "c"}) is None
        assert small.revoked({"jti": "b"}) == "jti"
        if world.scheme not in ALONE:
            # What others revoke must not go unnoticed for want of room: nothing is good any more.
            await world.revoke(jti="d")
            await until(lambda: small.revoked({"jti": "anything"}) == "list_full")
            assert small.status()["full"]
            assert world.other.revoked({"jti": "anything"}) is None


@case
async def many_at_once(world: World) -> None:
    await asyncio.gather(*(world.revoke(jti=str(number)) for number in range(60)))
    await until(lambda: all(store.revoked({"jti": str(n)}) for store in world.stores for n in range(60)))


@case
async def any_history(world: World) -> None:
    """Whatever is revoked and taken back, on whichever instance: both end up with what was said last."""
    pick = random.Random(1)
    said: dict[tuple[str, str], bool] = {}
    for _ in range(80):
        store = pick.choice(world.stores)
        kind, value = pick.choice(("jti", "sub")), pick.choice("abcd")
        if pick.random() < 0.6:
            await told(store.revoke(**{kind: value}, until=world.clock.wall() + pick.randrange(100, 900)))
            said[kind, value] = True
        else:
            found = await told(store.restore(**{kind: value}))
            assert found == said.get((kind, value), False)
            said[kind, value] = False
    await until(
        lambda: all(
            (store.revoked({kind: value}) is not None) == revoked
            for store in world.stores for (kind, value), revoked in said.items()
        )
    )  # fmt: skip


@case
async def what_it_says_of_itself(world: World) -> None:
    await world.revoke(sub="ann@example.com", why="she left")
    await world.everywhere({"sub": "ann@example.com"}, "sub")
    for store in world.stores:
        status = store.status()
        assert status["entries"] == 1
        assert status["full"] is False
        text = json.dumps(status) + repr(store)
        assert "ann" not in text
        assert "she left" not in text


@case
async def an_interruption_of_its_jobs(world: World) -> None:
    """A reload that does not want them, and one that does."""
    await world.revoke(jti="a")
    again = world.again()
    if world.scheme in ALONE:
        again = world.one
    for _ in range(2):
        async with at_work(again):
            await until(lambda: again.revoked({"jti": "a"}) == "jti")
        assert again.revoked({"jti": "a"}) == "jti"


def test_every_kind_of_job_has_a_key_of_its_own() -> None:
    for scheme in ("memory:", "file:///nowhere"):
        keys = [job.key for job in opened(scheme).jobs()]
        assert len(keys) == len(set(keys))


@pytest.mark.parametrize("scheme", list(REVOCATIONS))
@pytest.mark.parametrize("what", CASES, ids=lambda function: function.__name__.replace("_", " "))
async def test_an10_a_store_of_revocations_keeps_to(scheme: str, what: Case, url_of: Any) -> None:
    world = World(scheme, await url_of(scheme))
    async with at_work(*world.stores):
        await what(world)


@pytest.mark.parametrize("scheme", list(REVOCATIONS))
def test_a_store_takes_no_option_that_it_does_not_know(scheme: str) -> None:
    places = {"memory": "memory:", "file": "file:///nowhere", "redis": "redis://host", "rediss": "rediss://host"}
    assert opened(f"{places[scheme]}?max_entries=5").status()["max_entries"] == 5
    for options in ("more=1", "max_entries=0", "max_entries=x", "max_entries=1&max_entries=2", "x", "max_entries=²"):
        with pytest.raises(ValueError, match=r"behind the \?|is a number|is no URL"):
            opened(f"{places[scheme]}?{options}")
