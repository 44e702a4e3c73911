"""API keys in a store: what is remembered of them, and what holds while the store is down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.policies.authn.api_key_scene import (
    GOOD,
    INVALID,
    ONE,
    STRANGER,
    TWO,
    UNAVAILABLE,
    URL,
    Records,
    World,
    near_miss,
    record,
)

from gatekit.core.identity import Identity
from gatekit.policies.authn import api_keys
from gatekit.policies.authn.key_hash import new_api_key
from gatekit.policies.authn.key_records import ABSENT, FRESH, MAX_KEPT
from gatekit.policies.authn.method import Verified
from gatekit.testing import SeededRandom, request


def test_a_key_is_found_in_the_store() -> None:
    store = Records(
        **{ONE.prefix: record("one", ONE, subject="svc", tenant="acme", scopes=["a"], roles=["r"], expires=2e9)}
    )
    world = World(store)
    assert world.ask(ONE.text) == Identity(
        "svc", tenant="acme", client="one", scopes=frozenset("a"), roles=frozenset("r"), scheme="api_key", expires=2e9
    )
    assert world.ask(STRANGER.text) == INVALID
    assert store.asked == [ONE.prefix, STRANGER.prefix]
    assert world.stores.opened == [(URL, "stores")]


def test_keys_of_the_configuration_go_before_those_of_the_store() -> None:
    world = World(method=api_keys({"two": TWO.hash, "plain": "any-other-text-of-enough-length"}, source=URL))
    assert world.ask(TWO.text) == Identity("two", client="two", scheme="api_key")
    assert world.ask("any-other-text-of-enough-length") == Identity("plain", client="plain", scheme="api_key")
    assert world.store.asked == []
    assert world.ask(ONE.text) == GOOD


@pytest.mark.parametrize(
    ("key", "reason"),
    [("anything", "authn.invalid_key"), ("", "authn.invalid_key"), (ONE.text[:-1] + "u", "authn.invalid_key"),
     (ONE.text[:-2] + "00", "authn.malformed_key")],
)  # fmt: skip
def test_what_has_not_the_form_of_a_key_is_asked_of_nobody(key: str, reason: str) -> None:
    world = World()
    assert world.ask(key) == (401, reason)
    assert world.store.asked == []


def test_a_wrong_secret_under_a_prefix_that_is_there_is_wrong() -> None:
    world = World()
    assert world.ask(near_miss()) == INVALID
    assert world.ask(ONE.text) == GOOD


# -- what is remembered


def test_a_key_that_was_found_is_believed_for_half_a_minute() -> None:
    world = World()
    for _ in range(3):
        assert world.ask(ONE.text) == GOOD
    world.clock.advance(FRESH - 0.1)
    world.store.records.clear()
    assert world.ask(ONE.text) == GOOD
    assert world.store.asked == [ONE.prefix]
    world.clock.advance(0.1)
    assert world.ask(ONE.text) == INVALID
    assert world.ask(ONE.text) == INVALID
    assert world.store.asked == [ONE.prefix, ONE.prefix]


def test_that_there_is_no_such_key_is_believed_for_ten_seconds() -> None:
    world = World()
    for _ in range(3):
        assert world.ask(TWO.text) == INVALID
    world.store.records[TWO.prefix] = record("two", TWO)
    world.clock.advance(ABSENT - 0.1)
    assert world.ask(TWO.text) == INVALID
    assert world.store.asked == [TWO.prefix]
    world.clock.advance(0.1)
    assert world.ask(TWO.text) == Identity("two", client="two", scheme="api_key")


def test_what_changed_in_the_store_counts_after_half_a_minute() -> None:
    world = World()
    assert world.ask(ONE.text) == GOOD
    world.store.records[ONE.prefix] = record("one", ONE, disabled=True)
    assert world.ask(ONE.text) == GOOD
    world.clock.advance(FRESH)
    assert world.ask(ONE.text) == (401, "authn.disabled_key")


def test_a_key_that_ends_meanwhile_has_ended() -> None:
    world = World()
    world.store.records[ONE.prefix] = record("one", ONE, expires=world.clock.wall() + 5)
    assert isinstance(world.ask(ONE.text), Identity)
    world.clock.advance(5)
    assert world.ask(ONE.text) == (401, "authn.expired_key")
    assert world.store.asked == [ONE.prefix]


def test_an_identity_is_built_once_for_a_key() -> None:
    world = World()
    first = world.ask(ONE.text)
    assert world.ask(ONE.text) is first
    world.clock.advance(FRESH)
    assert world.ask(ONE.text) is not first


def test_garbage_pushes_out_no_good_key_and_what_is_kept_is_bounded() -> None:
    world = World()
    assert world.ask(ONE.text) == GOOD
    seen = world.bound._stored._seen  # type: ignore[union-attr]
    for number in range(MAX_KEPT + 100):
        seen.absent.put(f"{number}", True, world.clock.monotonic(), ABSENT)
    random = SeededRandom(3)
    for _ in range(200):
        assert world.ask(new_api_key(random.token).text) == INVALID
    assert len(seen.absent) <= MAX_KEPT
    assert world.ask(ONE.text) == GOOD
    assert world.store.asked.count(ONE.prefix) == 1


def test_a_reload_forgets_nothing_and_several_policies_share_what_is_known() -> None:
    world = World()
    assert world.ask(ONE.text) == GOOD
    world.store.down = True
    again = world.bind(lambda identity: [(b"x-user", identity.subject.encode())])
    assert world.ask(ONE.text, again) == GOOD
    assert world.store.asked == [ONE.prefix]
    assert len(world.stores.opened) == 1
    found = again.identify(request(headers={"X-Api-Key": ONE.text}))
    assert isinstance(found, Verified)
    assert found.headers == [(b"x-user", b"one")]


# -- the store is down


def test_while_the_store_is_down_known_keys_go_on_and_others_are_503() -> None:
    world = World()
    assert world.ask(ONE.text) == GOOD
    world.store.down = True
    assert world.ask(TWO.text) == UNAVAILABLE
    world.clock.advance(FRESH)
    assert world.ask(ONE.text) == GOOD
    world.clock.advance(300.0 - FRESH - 0.1)
    assert world.ask(ONE.text) == GOOD
    world.clock.advance(0.1)
    assert world.ask(ONE.text) == UNAVAILABLE


def test_while_the_store_is_down_a_wrong_secret_is_still_wrong() -> None:
    world = World()
    assert world.ask(ONE.text) == GOOD
    world.store.down = True
    world.clock.advance(FRESH)
    assert world.ask(near_miss()) == INVALID


@pytest.mark.parametrize(("stale", "held"), [(0.0, FRESH), (10.0, FRESH), (60.0, 60.0), (3600.0, 3600.0)])
def test_for_how_long_known_keys_go_on_is_a_setting(stale: float, held: float) -> None:
    world = World(method=api_keys(source=URL, stale=stale))
    assert world.ask(ONE.text) == GOOD
    world.store.down = True
    world.clock.advance(held - 0.1)
    assert world.ask(ONE.text) == GOOD
    world.clock.advance(0.1)
    assert world.ask(ONE.text) == UNAVAILABLE


def test_a_store_that_did_not_answer_is_left_alone_for_a_second() -> None:
    world = World()
    world.store.down = True
    for key in (ONE, TWO, ONE, STRANGER):
        assert world.ask(key.text) == UNAVAILABLE
    assert world.store.asked == [ONE.prefix]
    world.clock.advance(0.9)
    assert world.ask(TWO.text) == UNAVAILABLE
    assert world.store.asked == [ONE.prefix]
    world.store.down = False
    world.clock.advance(0.1)
    assert world.ask(ONE.text) == GOOD


def test_a_store_that_is_there_again_is_asked_again() -> None:
    world = World()
    assert world.ask(ONE.text) == GOOD
    world.store.down = True
    world.clock.advance(FRESH)
    assert world.ask(ONE.text) == GOOD
    world.store.down = False
    world.store.records.clear()
    world.clock.advance(1.0)
    assert world.ask(ONE.text) == INVALID


def test_an_error_that_is_no_outage_is_nobodys_to_hide() -> None:
    class Broken(Records):
        async def find(self, prefix: str) -> Mapping[str, Any] | None:
            raise RuntimeError("a bug")

    world = World(Broken())
    with pytest.raises(RuntimeError, match="a bug"):
        world.ask(ONE.text)
    assert world.bound.status() == {"api_keys": {"asking": 0, "down": False}}
