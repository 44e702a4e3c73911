"""HTTP Basic: what a password costs that is tried, how few are, and that the cost tells nothing about who is there."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policies.authn.basic_scene import (
    ANN,
    BOB,
    BUSY,
    CHEAP,
    IDENTITY,
    INVALID,
    MODULE,
    OTHER,
    PASSWORD,
    RANDOM,
    USERS,
    World,
    sent,
)

from gatekit.core.identity import Identity
from gatekit.policies.authn.basic import basic, hash_password
from gatekit.testing import test_ports


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


# -- what a try costs


def test_a_name_that_nobody_has_costs_what_one_costs_that_somebody_has(world: World) -> None:
    for name in ("ann", "nobody", "bob", "somebody", ""):
        world.tried.clear()
        world.compared = 0
        assert world.ask(sent(name, "wrong")) == INVALID
        assert (world.tried, world.compared) == ([(1024, 8, 1, 32)], 1)


def test_nobodys_cost_is_always_the_same_and_one_that_somebody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    users = {
        "cheap": hash_password("x", RANDOM.token, **CHEAP),
        "dear": hash_password("x", RANDOM.token, n=2**11, r=8, p=1),
    }
    world = World(monkeypatch, basic(users, checks=1000))
    costs: dict[str, set[int]] = {f"nobody{number}": set() for number in range(12)}
    for attempt in range(2):
        for name, found in costs.items():
            assert world.ask(sent(name, f"wrong{attempt}")) == INVALID
            found.add(world.tried.pop()[0])
    assert all(len(found) == 1 for found in costs.values())
    assert set.union(*costs.values()) == {2**10, 2**11}


def test_the_password_whose_hash_stands_in_for_nobodys_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, basic({"ann": ANN}))
    assert world.ask(sent("nobody", PASSWORD)) == INVALID
    assert world.ask(sent("nobody", PASSWORD)) == INVALID


def test_digests_are_compared_in_constant_time() -> None:
    assert vars(MODULE)["compare_digest"] is hmac.compare_digest


def test_a_good_credential_is_tried_once_a_minute(world: World) -> None:
    for _ in range(5):
        assert world.ask(sent("ann", PASSWORD)) == IDENTITY
    world.clock.advance(59.9)
    assert world.ask(sent("ann", PASSWORD)) == IDENTITY
    assert len(world.tried) == 1
    world.clock.advance(0.1)
    assert world.ask(sent("ann", PASSWORD)) == IDENTITY
    assert len(world.tried) == 2


@pytest.mark.parametrize(("cache", "tries"), [(0.0, 3), (5.0, 1)])
def test_for_how_long_it_is_believed_is_a_setting(monkeypatch: pytest.MonkeyPatch, cache: float, tries: int) -> None:
    world = World(monkeypatch, basic(USERS, cache=cache))
    for _ in range(3):
        assert world.ask(sent("ann", PASSWORD)) == IDENTITY
    assert len(world.tried) == tries
    world.clock.advance(cache)
    assert world.ask(sent("ann", PASSWORD)) == IDENTITY
    assert len(world.tried) == tries + 1


def test_a_wrong_credential_is_tried_once_in_ten_seconds(world: World) -> None:
    for name in ("ann", "nobody"):
        world.tried.clear()
        for _ in range(5):
            assert world.ask(sent(name, "wrong")) == INVALID
        assert len(world.tried) == 1
        world.clock.advance(10.0)
        assert world.ask(sent(name, "wrong")) == INVALID
        assert len(world.tried) == 2


def test_what_was_tried_is_kept_under_a_digest_that_this_process_alone_can_make(world: World) -> None:
    world.ask(sent("ann", PASSWORD))
    world.ask(sent("ann", OTHER))
    lately = world.bound._lately
    held = [*lately.good._entries, *lately.wrong._entries]
    assert len(lately.salt) == 32
    assert held == [
        hashlib.sha256(lately.salt + sent("ann", password)[6:].encode()).digest() for password in (PASSWORD, OTHER)
    ]
    for one in (*lately.good._entries.values(), *lately.wrong._entries.values()):
        assert PASSWORD not in repr(one)
        assert OTHER not in repr(one)


def test_guesses_push_out_no_good_credential(world: World) -> None:
    assert world.ask(sent("ann", PASSWORD)) == IDENTITY
    lately = world.bound._lately
    for number in range(MODULE.MAX_WRONG * 2):
        lately.wrong.put(number.to_bytes(32, "big"), MODULE._Tried("x", ""), world.clock.monotonic(), 10.0)
    assert len(lately.wrong) <= MODULE.MAX_WRONG
    assert world.ask(sent("ann", PASSWORD)) == IDENTITY
    assert len(world.tried) == 1


# -- how many are tried


def test_so_many_passwords_are_tried_in_a_second_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, basic(USERS, checks=3))
    assert [world.ask(sent("ann", f"guess{number}")) for number in range(5)] == [INVALID] * 3 + [BUSY] * 2
    assert len(world.tried) == 3
    # What was tried before and what is no credential at all are told without a try.
    assert world.ask(sent("ann", "guess0")) == INVALID
    assert world.ask("Basic !") == INVALID
    world.clock.advance(0.32)
    assert world.ask(sent("ann", PASSWORD)) == BUSY
    world.clock.advance(0.02)
    assert world.ask(sent("ann", PASSWORD)) == IDENTITY
    assert [world.ask(sent("ann", f"more{number}")) for number in range(2)] == [BUSY] * 2
    assert world.ask(sent("ann", PASSWORD)) == IDENTITY
    world.clock.advance(3600.0)
    assert [world.ask(sent("ann", f"late{number}")) for number in range(4)] == [INVALID] * 3 + [BUSY]


@given(st.lists(st.floats(0, 2), max_size=60), st.integers(1, 5))
@settings(max_examples=60)
def test_whatever_comes_no_second_has_more_tries_than_twice_what_is_allowed(waits: list[float], checks: int) -> None:
    bound = basic(USERS, checks=checks).bind_to(test_ports(), "gateway", lambda identity: [])
    now, allowed = 1_000.0, []
    for wait in waits:
        now += wait
        if bound._may_try(now):
            allowed.append(now)
    for start in allowed:
        assert sum(start <= one < start + 1.0 for one in allowed) <= 2 * checks


def test_a_clock_that_stands_still_gives_no_more_tries(world: World) -> None:
    assert [world.bound._may_try(1_000.0) for _ in range(12)] == [True] * 10 + [False] * 2
    # Nor one that goes back, as two threads may read it, and then on to where it was.
    assert not world.bound._may_try(999.0)
    assert not world.bound._may_try(1_000.0)


# -- a reload


def test_a_reload_forgets_neither_what_was_tried_nor_how_much(world: World) -> None:
    assert world.ask(sent("ann", PASSWORD)) == IDENTITY
    again = world.bind(basic(USERS, checks=1))
    assert world.ask(sent("ann", PASSWORD), bound=again) == IDENTITY
    assert len(world.tried) == 1
    assert [world.ask(sent("bob", f"{number}"), bound=again) for number in range(2)] == [INVALID, BUSY]


def test_another_password_counts_from_the_reload_on(world: World) -> None:
    assert world.ask(sent("ann", PASSWORD)) == IDENTITY
    assert world.ask(sent("ann", OTHER)) == INVALID
    changed = world.bind(basic({"ann": hash_password(OTHER, RANDOM.token, **CHEAP)}))
    assert world.ask(sent("ann", PASSWORD), bound=changed) == INVALID
    assert world.ask(sent("ann", OTHER), bound=changed) == Identity("ann", scheme="basic")
    gone = world.bind(basic({"eve": BOB}))
    assert world.ask(sent("ann", OTHER), bound=gone) == INVALID


def test_a_user_who_is_new_is_let_in_though_he_was_refused_before(world: World) -> None:
    assert world.ask(sent("eve", OTHER)) == INVALID
    assert world.ask(sent("eve", OTHER), bound=world.bind(basic({"eve": BOB}))) == Identity("eve", scheme="basic")
