"""Remote key sets: rotation, floods of key ids that nobody has, and an issuer that is down."""

from __future__ import annotations

import pytest
from tests.policies.authn.keysets_scene import (
    ALGORITHMS,
    URL,
    Scene,
    apart,
    ask,
    jwks,
    plain,
    refresh,
)

from gatekit.core.ports import Ports, Reach
from gatekit.errors import MissingPort, StoreUnavailable
from gatekit.policies.authn.jose_keys import read_key_set
from gatekit.policies.authn.keyset_state import MAX_UNKNOWN, MAX_WAITING, KeyState
from gatekit.policies.authn.keysets import FixedKeys, KeySource, RemoteKeys

DAY = 86_400.0


def state_of(scene: Scene, keys: RemoteKeys) -> KeyState:
    """The one cell there is."""
    (state,) = scene.ports.cells._cells.values()
    assert isinstance(state, KeyState)
    return state


# -- what is known, and what is not


def test_fixed_keys_are_those_of_the_set() -> None:
    keys = FixedKeys(read_key_set(jwks("a", "b"), ALGORITHMS))
    found = keys.find("a", "EdDSA")
    assert found is not None
    assert found.kid == "a"
    assert (keys.find("c", "EdDSA"), keys.find(None, "EdDSA")) == (None, None)
    assert (keys.jobs(), keys.status()) == ([], {"keys": 2, "kids": 2})


def test_the_first_request_has_the_keys_fetched_and_later_ones_are_told_at_once() -> None:
    scene = Scene("a")
    keys = scene.keys()
    assert scene.idp.fetches == 0
    found = ask(keys, "a")
    assert found is not None
    assert plain(keys, "a") is found
    assert scene.idp.asked == [(1_000.0, URL)]
    assert scene.idp.told == [([("accept", "application/jwk-set+json, application/json")], 5.0, Reach())]


def test_the_reach_and_the_timeout_are_passed_on() -> None:
    scene = Scene("a")
    reach = Reach(networks=("10.0.0.0/8",))
    ask(scene.keys(url="http://10.0.0.1:8080/keys", reach=reach, timeout=2.0), "a")
    assert scene.idp.told == [([("accept", "application/jwk-set+json, application/json")], 2.0, reach)]


def test_the_refresh_fetches_before_anybody_asks() -> None:
    scene = Scene("a")
    keys = scene.keys()
    refresh(keys)
    assert plain(keys, "a") is not None
    assert scene.idp.fetches == 1


def test_a_token_without_a_key_id_means_the_only_key() -> None:
    scene = Scene("a")
    keys = scene.keys()
    assert ask(keys, None) is not None
    scene.idp.kids = ["a", "b"]
    assert ask(keys, "b") is not None
    assert ask(keys, None) is None


def test_a_key_is_not_given_for_an_algorithm_that_is_not_configured() -> None:
    scene = Scene("a")
    keys = scene.keys()
    ask(keys, "a")
    assert plain(keys, "a", "none") is None
    assert plain(keys, "b", "x" * 10_000) is None
    assert scene.idp.fetches == 1


def test_binding_needs_a_clock() -> None:
    with pytest.raises(MissingPort, match="clock"):
        RemoteKeys(KeySource(url=URL, algorithms=ALGORITHMS), Ports())


# -- AN5: rotation


def test_an5_a_key_id_never_seen_is_accepted_on_its_first_request_with_one_fetch() -> None:
    scene = Scene("old")
    keys = scene.keys()
    ask(keys, "old")
    scene.idp.kids = ["old", "new"]
    assert ask(keys, "new") is not None
    assert scene.idp.fetches == 2
    assert plain(keys, "old") is not None
    assert plain(keys, "new") is not None


@pytest.mark.parametrize("age", [0.0, 240.0, 301.0, 3_601.0, DAY - 1], ids=["new", "due", "stale", "an hour", "a day"])
@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
def test_an5_a_known_key_id_never_waits_however_old_the_keys_are(age: float, down: bool) -> None:
    scene = Scene("old")
    keys = scene.keys()
    ask(keys, "old")
    scene.clock.advance(age)
    if down:
        scene.idp.down()
        refresh(keys)
    fetches = scene.idp.fetches
    assert plain(keys, "old") is not None
    assert scene.idp.fetches == fetches


def test_an5_an_old_key_is_good_until_its_issuer_takes_it_back() -> None:
    scene = Scene("old")
    keys = scene.keys()
    ask(keys, "old")
    scene.idp.kids = ["new"]
    assert plain(keys, "old") is not None
    assert ask(keys, "new") is not None
    assert ask(keys, "old") is None


# -- AN6: floods


BEFORE = ["good", "empty", "failed", "never", "too old"]


def flooded(before: str) -> tuple[Scene, RemoteKeys]:
    """A key set in one of the states in which a flood may meet it."""
    scene = Scene("a", "b")
    keys = scene.keys()
    if before == "empty":
        scene.idp.kids = []
    elif before == "never":
        scene.idp.down()
    else:
        ask(keys, "a")
        scene.clock.advance(DAY + 1 if before == "too old" else 60)
        if before != "good":
            scene.idp.down()
    if before == "failed":
        scene.clock.advance(240)
        refresh(keys)
        scene.clock.advance(30)
    scene.idp.asked.clear()
    return scene, keys


@pytest.mark.parametrize("before", BEFORE)
def test_an6_ten_thousand_key_ids_in_ten_seconds_cause_one_fetch_in_thirty(before: str) -> None:
    scene, keys = flooded(before)
    good = plain(keys, "a") if before in ("good", "failed") else None
    state = state_of(scene, keys)
    for index in range(10_000):
        scene.clock.advance(0.001)
        try:
            assert ask(keys, f"made-up-{index}") is None
        except StoreUnavailable:
            assert before != "good"
        if good is not None and index % 100 == 0:
            assert plain(keys, "a") is good
    assert scene.idp.fetches == 1
    assert len(state.unknown) <= MAX_UNKNOWN == 1_024
    assert state.waiting == 0


@pytest.mark.parametrize("before", BEFORE)
def test_an6_however_long_a_flood_lasts_fetches_are_thirty_seconds_apart(before: str) -> None:
    scene, keys = flooded(before)
    for index in range(900):
        scene.clock.advance(0.25)
        try:
            ask(keys, f"made-up-{index}")
        except StoreUnavailable:
            pass
    assert scene.idp.fetches == 8
    assert min(apart(at for at, _ in scene.idp.asked)) >= 30


@pytest.mark.parametrize("before", ["good", "failed"])
def test_an6_a_key_published_during_a_flood_is_accepted_when_the_cooldown_is_over(before: str) -> None:
    scene, keys = flooded(before)
    for index in range(100):
        try:
            ask(keys, f"made-up-{index}")
        except StoreUnavailable:
            pass
    scene.idp.up()
    scene.idp.kids = ["a", "new"]
    scene.clock.advance(29)
    if before == "good":
        assert ask(keys, "new") is None
    else:
        with pytest.raises(StoreUnavailable):
            ask(keys, "new")
    scene.clock.advance(1)
    assert ask(keys, "new") is not None
    assert scene.idp.fetches == 2


def test_an6_what_is_found_not_to_exist_is_remembered_and_bounded() -> None:
    scene = Scene("a")
    keys = scene.keys(cooldown=0.001)
    good = ask(keys, "a")
    state = state_of(scene, keys)
    for index in range(3_000):
        scene.clock.advance(0.01)
        assert ask(keys, f"made-up-{index}") is None
        assert len(state.unknown) <= 1_024
    assert scene.idp.fetches == 3_001
    scene.clock.advance(1)
    assert plain(keys, "made-up-2999") is None
    assert scene.idp.fetches == 3_001
    assert plain(keys, "a") is good


def test_an6_a_key_id_is_asked_for_again_after_its_ttl() -> None:
    scene = Scene("a")
    keys = scene.keys()
    ask(keys, "a")
    assert ask(keys, "b") is None
    scene.idp.kids = ["a", "b"]
    scene.clock.advance(299)
    assert plain(keys, "b") is None
    scene.clock.advance(1)
    assert ask(keys, "b") is not None


def test_an6_a_fetch_that_brings_a_key_id_makes_it_known() -> None:
    scene = Scene("a")
    keys = scene.keys()
    ask(keys, "a")
    assert ask(keys, "b") is None
    scene.idp.kids = ["a", "b"]
    scene.clock.advance(270)
    refresh(keys)
    assert plain(keys, "b") is not None


@pytest.mark.parametrize(("kid", "without", "with_it"), [("b", ["a"], ["a", "b"]), (None, ["a", "b"], ["a"])], ids=str)
def test_an6_a_key_that_comes_and_goes_is_not_unknown_for_what_it_once_was(
    kid: str | None, without: list[str], with_it: list[str]
) -> None:
    scene = Scene(*without)
    keys = scene.keys(cooldown=1.0)
    ask(keys, "a")
    assert ask(keys, kid) is None
    for kids in (with_it, without, with_it):
        scene.idp.kids = kids
        scene.clock.advance(1)
        if kids is without:
            assert ask(keys, "anything") is None
        elif kids is with_it and scene.idp.fetches == 2:
            assert ask(keys, "anything else") is None
    assert ask(keys, kid) is not None
    assert scene.idp.fetches == 5


def test_an6_an_unknown_key_id_under_cooldown_is_not_taken_for_one_that_was_looked_for() -> None:
    scene = Scene("a")
    keys = scene.keys()
    ask(keys, "a")
    assert ask(keys, "x") is None
    assert plain(keys, "new") is None
    scene.idp.kids = ["a", "new"]
    scene.clock.advance(30)
    assert ask(keys, "new") is not None


def test_an_unknown_key_id_is_unavailable_and_not_wrong_while_the_issuer_is_down() -> None:
    scene = Scene("a")
    keys = scene.keys()
    ask(keys, "a")
    assert ask(keys, "x") is None
    scene.clock.advance(30)
    scene.idp.down()
    for _ in range(2):
        with pytest.raises(
            StoreUnavailable, match=r"the key set of https://id\.example/keys cannot be had: .*no answer"
        ):
            ask(keys, "y")
    assert plain(keys, "x") is None
    scene.idp.up()
    scene.clock.advance(30)
    assert ask(keys, "y") is None


def test_no_more_requests_wait_than_there_is_room_for() -> None:
    scene = Scene("a")
    keys = scene.keys()
    ask(keys, "a")
    state = state_of(scene, keys)
    state.waiting = MAX_WAITING
    with pytest.raises(StoreUnavailable, match="too many requests wait"):
        ask(keys, "x")
    assert plain(keys, "a") is not None
    state.waiting -= 1
    assert ask(keys, "x") is None
    assert state.waiting == MAX_WAITING - 1
