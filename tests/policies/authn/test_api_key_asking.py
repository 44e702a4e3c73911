"""API keys in a store: how much is asked at a time, which records are taken, and where the store is."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policies.authn.api_key_scene import (
    GOOD,
    INVALID,
    ONE,
    STRANGER,
    TWO,
    UNAVAILABLE,
    URL,
    InMemory,
    Records,
    World,
    near_miss,
    record,
)

from gatekit.core.ports import Ports
from gatekit.errors import MissingPort, MissingSecret
from gatekit.policies.authn import api_keys, key_hash
from gatekit.policies.authn.key_hash import new_api_key
from gatekit.policies.authn.key_records import ABSENT, FRESH, MAX_ASKING
from gatekit.testing import ManualClock, SeededRandom, request

# -- how much is asked at a time


class Waiting:
    """`Once` whose work has not been done yet."""

    def __init__(self) -> None:
        self.keys: list[object] = []

    async def __call__(self, key: Any, work: Any) -> Any:
        self.keys.append(key)
        return await _Pending()


class _Pending:
    def __await__(self) -> Any:
        yield self


def test_several_requests_with_one_key_ask_once() -> None:
    once = Waiting()
    world = World(once=once)
    waiting = [world.bound.identify(request(headers={"X-Api-Key": ONE.text})) for _ in range(200)]
    for one in waiting:
        one.send(None)  # type: ignore[union-attr]
    assert set(once.keys) == {("api_keys", URL, ONE.prefix)}
    assert world.bound.status()["api_keys"]["asking"] == 1
    for one in waiting:
        one.close()  # type: ignore[union-attr]
    assert world.bound.status()["api_keys"]["asking"] == 0


def test_no_more_than_fifty_keys_are_asked_about_at_a_time() -> None:
    once = Waiting()
    world = World(once=once)
    random = SeededRandom(4)
    waiting: list[Any] = []
    for _ in range(MAX_ASKING):
        waiting.append(world.bound.identify(request(headers={"X-Api-Key": new_api_key(random.token).text})))
        waiting[-1].send(None)
    assert world.ask(ONE.text) == UNAVAILABLE
    assert world.bound.status() == {"api_keys": {"asking": MAX_ASKING, "down": False}}
    waiting.pop().close()
    waiting.append(world.bound.identify(request(headers={"X-Api-Key": ONE.text})))
    waiting[-1].send(None)
    # One more who waits for a key that is asked about already costs the store nothing.
    waiting.append(world.bound.identify(request(headers={"X-Api-Key": ONE.text})))
    waiting[-1].send(None)
    for one in waiting:
        one.close()
    assert world.bound.status()["api_keys"]["asking"] == 0


# -- what a record is


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"hash": ONE.hash}, "id"),
        ({"id": "one"}, "hash"),
        ({"id": "one", "hash": TWO.hash}, "of another key"),
        ({"id": "one", "hash": "sha256:" + "0" * 64}, "found by its prefix"),
        ({"id": "one", "secret": ONE.text}, "found by its prefix"),
        ({"id": "one", "hash": ONE.hash, "sopes": ["a"]}, "sopes"),
        ({"id": "one", "hash": ONE.hash, "expires": "soon"}, "expires"),
        ({"id": "a\nb", "hash": ONE.hash}, "id"),
        ({}, "id"),
    ],
)
def test_a_record_that_cannot_be_used_lets_nobody_in_and_is_said_once(
    bad: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(Records(**{ONE.prefix: bad}))
    with caplog.at_level(logging.WARNING, "gatekit.authn"):
        for _ in range(3):
            assert world.ask(ONE.text) == INVALID
    (said,) = [one.getMessage() for one in caplog.records]
    assert f"gk_{ONE.prefix}" in said
    assert why in said
    for secret in (ONE.text, ONE.hash[14:], TWO.hash[14:]):
        assert secret not in said


def test_as_much_is_done_for_a_prefix_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(InMemory(**{ONE.prefix: record("one", ONE)}))
    assert world.ask(ONE.text) == GOOD
    done: list[int] = []
    original = key_hash.KeyHash.fits

    def counted(kept: key_hash.KeyHash, key: bytes) -> bool:
        done.append(len(key))
        return original(kept, key)

    monkeypatch.setattr(key_hash.KeyHash, "fits", counted)
    for key in (ONE, STRANGER, TWO):
        world.ask(key.text)
    assert done == [len(ONE.text)] * 3


# -- a store that answers from memory


def test_a_store_in_memory_is_asked_every_time_and_nobody_waits() -> None:
    store = InMemory(**{ONE.prefix: record("one", ONE)})
    world = World(store)
    assert world.ask(ONE.text) == GOOD
    assert store.asked == [ONE.prefix]
    store.records[ONE.prefix] = record("one", ONE, disabled=True)
    assert world.ask(ONE.text) == (401, "authn.disabled_key")
    store.records.clear()
    assert world.ask(ONE.text) == INVALID
    assert store.asked == [ONE.prefix]
    assert not isinstance(world.bound.identify(request(headers={"X-Api-Key": ONE.text})), Awaitable)


def test_a_store_in_memory_that_cannot_be_read_is_unavailable_and_tried_again_after_a_second() -> None:
    store = InMemory(**{ONE.prefix: record("one", ONE)})
    store.down = True
    world = World(store)
    for _ in range(3):
        assert world.ask(ONE.text) == UNAVAILABLE
    assert store.asked == [ONE.prefix]
    store.down = False
    world.clock.advance(1.0)
    assert world.ask(ONE.text) == GOOD


def test_jobs_and_figures_of_a_store_are_passed_on() -> None:
    store = InMemory()
    assert World(store).bound.jobs() == [store.refreshed]
    assert World(store).bound.status() == {"api_keys": {"records": 0, "asking": 0, "down": False}}
    assert World(Records()).bound.jobs() == []
    without = api_keys({"a": ONE.hash}).bind_to(Ports(), "gateway", lambda identity: [])
    assert (without.jobs(), without.status()) == ([], {})


# -- where the URL is


@pytest.mark.parametrize(
    ("source", "opened"),
    [
        ("env:KEYS", "redis://looked-up/env:KEYS"),
        ("file:/run/secrets/keys", "redis://looked-up/file:/run/secrets/keys"),
        ("file:///etc/gatekit/keys.yaml", "file:///etc/gatekit/keys.yaml"),
        (URL, URL),
    ],
)
def test_a_source_is_a_url_or_says_where_one_is(source: str, opened: str) -> None:
    world = World(method=api_keys(source=source), secrets=lambda reference: f"redis://looked-up/{reference}")
    assert world.stores.opened == [(opened, "stores")]


def test_a_source_that_leads_to_nothing_is_an_error_when_it_is_bound() -> None:
    with pytest.raises(MissingSecret):
        World(method=api_keys(source="env:KEYS"))
    with pytest.raises(MissingPort, match="stores"):
        api_keys(source=URL).bind_to(Ports(clock=ManualClock()), "gateway", lambda identity: [])


def test_ob8_the_source_is_in_no_repr() -> None:
    assert "keys.example" not in repr(api_keys(source=URL))


# -- whatever happens


class Model:
    """What the store had, and when it could last be asked about it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.there_at = self.gone_at = -1e9
        self.look()

    def look(self) -> None:
        if not self.world.store.down:
            now = self.world.clock.monotonic()
            if ONE.prefix in self.world.store.records:
                self.there_at = now
            else:
                self.gone_at = now


STEPS = st.tuples(st.sampled_from(["ask", "wrong", "down", "up", "remove", "add", "wait", "wait"]), st.floats(0, 200))


@given(st.lists(STEPS, max_size=25))
@settings(max_examples=200)
def test_nobody_gets_in_whom_the_store_did_not_know_lately(steps: list[tuple[str, float]]) -> None:
    """A good key gets in only if the store had it within five minutes, within half a minute where it answers; it is
    wrong only if the store had it not within ten seconds; and a wrong secret never gets in."""
    world = World()
    model = Model(world)
    failed_at = -1e9
    for what, wait in steps:
        now = world.clock.monotonic()
        if what in ("ask", "wrong"):
            asked = len(world.store.asked)
            found = world.ask(ONE.text if what == "ask" else near_miss())
            if world.store.down and len(world.store.asked) > asked:
                failed_at = now
            if found == GOOD:
                assert what == "ask"
                assert now - model.there_at <= (300.0 if now < failed_at + 1.0 or world.store.down else FRESH)
            elif found == INVALID:
                assert what == "wrong" or now - model.gone_at <= ABSENT
            else:
                assert found == UNAVAILABLE
                assert world.store.down or now < failed_at + 1.0
        elif what in ("down", "up"):
            world.store.down = what == "down"
        elif what == "remove":
            world.store.records.clear()
        elif what == "add":
            world.store.records[ONE.prefix] = record("one", ONE)
        else:
            model.look()
            world.clock.advance(wait)
        model.look()
