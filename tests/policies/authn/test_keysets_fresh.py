"""AN7: key sets are refreshed before they are stale, and kept when their issuer is down or publishes what is no good."""

from __future__ import annotations

import logging

import pytest
from tests.policies.authn.keysets_scene import URL, Background, Scene, apart, ask, jwks, plain, refresh, status

from gatekit.core.events import KeySetRefreshed, KeySetStale
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn.keyset_state import lifetime
from gatekit.testing import FixedRandom

DAY = 86_400.0


def stale_events(scene: Scene) -> list[KeySetStale]:
    return [event for event in scene.events if isinstance(event, KeySetStale)]


@pytest.mark.parametrize(("random", "share"), [(0.0, 0.72), (0.5, 0.8), (0.999999, 0.88)])
def test_an7_keys_are_refreshed_at_eighty_per_cent_of_their_ttl_with_a_tenth_of_jitter(
    random: float, share: float
) -> None:
    scene = Scene("a", random=FixedRandom(random))
    keys = scene.keys()
    assert refresh(keys) == pytest.approx(300 * share, abs=0.001)
    scene.clock.advance(300 * share - 1)
    assert refresh(keys) == pytest.approx(1.0, abs=0.001)
    assert scene.idp.fetches == 1
    scene.clock.advance(1.001)
    assert refresh(keys) == pytest.approx(300 * share, abs=0.01)
    assert scene.idp.fetches == 2


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 300.0),
        ({"cache-control": "max-age=600"}, 600.0),
        ({"cache-control": "public, MAX-AGE=600, must-revalidate"}, 600.0),
        ({"cache-control": 'max-age="600"'}, 600.0),
        ({"cache-control": "max-age=600, max-age=900"}, 600.0),
        ({"cache-control": "s-maxage=900"}, 300.0),
        ({"cache-control": "max-age=60"}, 60.0),
        ({"cache-control": "max-age=59"}, 60.0),
        ({"cache-control": "max-age=0"}, 60.0),
        ({"cache-control": "max-age=3600"}, 3_600.0),
        ({"cache-control": "max-age=3601"}, 3_600.0),
        ({"cache-control": "max-age=" + "9" * 5_000, "age": "9" * 5_000}, 60.0),
        ({"cache-control": "max-age=" + "9" * 5_000}, 3_600.0),
        ({"cache-control": "max-age=600", "age": "100"}, 500.0),
        ({"cache-control": "max-age=600", "age": "599"}, 60.0),
        ({"cache-control": "max-age=600", "age": "soon"}, 600.0),
        ({"cache-control": "max-age=-1"}, 300.0),
        ({"cache-control": "max-age=1.5"}, 300.0),
        ({"cache-control": "max-age=٣"}, 300.0),
        ({"cache-control": "max-age"}, 300.0),
        ({"cache-control": "no-store"}, 300.0),
        ({"cache-control": "no-store, max-age=600"}, 300.0),
        ({"cache-control": "max-age=600, No-Cache"}, 300.0),
        ({"cache-control": ",,="}, 300.0),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an7_the_answer_says_how_long_it_is_fresh_within_bounds(headers: dict[str, str], expected: float) -> None:
    assert lifetime(headers, 300.0) == expected
    scene = Scene("a", random=FixedRandom(0.5))
    scene.idp.headers = headers
    keys = scene.keys()
    assert refresh(keys) == pytest.approx(expected * 0.8)
    scene.clock.advance(expected - 0.5)
    assert status(keys)["stale"] is False
    scene.clock.advance(0.5)
    assert status(keys)["stale"] is True


def test_an7_keys_are_served_stale_for_a_day_and_then_nothing_is() -> None:
    scene = Scene("a")
    keys = scene.keys()
    background = Background(keys, scene.clock)
    background.advance(0)
    scene.idp.down()
    background.advance(DAY)
    assert plain(keys, "a") is not None
    assert status(keys)["usable"] is True
    background.advance(1)
    with pytest.raises(StoreUnavailable):
        ask(keys, "a")
    figures = status(keys)
    assert (figures["usable"], figures["stale"], figures["keys"], figures["age"]) == (False, True, 1, DAY + 1)
    scene.idp.up()
    background.advance(31)
    assert plain(keys, "a") is not None


def test_an7_how_long_stale_keys_are_served_is_a_setting() -> None:
    scene = Scene("a")
    keys = scene.keys(stale=600.0)
    ask(keys, "a")
    scene.idp.down()
    scene.clock.advance(600)
    assert plain(keys, "a") is not None
    scene.clock.advance(0.001)
    with pytest.raises(StoreUnavailable):
        ask(keys, "a")


@pytest.mark.parametrize("stale", [10.0, 600.0])
def test_an7_keys_are_refreshed_before_they_are_too_old_whatever_their_issuer_says(stale: float) -> None:
    scene = Scene("a", random=FixedRandom(0.999))
    scene.idp.headers = {"cache-control": "max-age=3600"}
    keys = scene.keys(stale=stale)
    background = Background(keys, scene.clock)
    for _ in range(100):
        background.advance(stale / 7)
        assert plain(keys, "a") is not None
    assert scene.idp.fetches > 10


def test_an7_an_issuer_that_is_down_is_asked_between_five_and_sixty_seconds_apart() -> None:
    scene = Scene("a")
    keys = scene.keys()
    background = Background(keys, scene.clock)
    background.advance(0)
    scene.idp.down()
    background.advance(3_600)
    waits = apart(at for at, _ in scene.idp.asked[1:])
    assert min(waits) >= 5
    assert max(waits) <= 60
    assert waits[0] <= 10
    assert max(waits) > 30
    assert len(set(waits)) == len(waits)


def test_an7_a_key_set_that_never_came_is_asked_for_sooner() -> None:
    scene = Scene("a")
    scene.idp.down()
    keys = scene.keys()
    background = Background(keys, scene.clock)
    background.advance(600)
    waits = apart(at for at, _ in scene.idp.asked)
    assert 1 <= waits[0] <= 2
    assert min(waits) >= 1
    assert max(waits) <= 30
    scene.idp.up()
    background.advance(30)
    assert plain(keys, "a") is not None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (500, "the key set was answered with status 500"),
        (404, "the key set was answered with status 404"),
        (204, "the key set was answered with status 204"),
        (304, "the key set was answered with status 304"),
        (b"<html>", "the JWK set cannot be read"),
        (b"", "the JWK set cannot be read"),
        (b"[" * 100_000, "the JWK set cannot be read"),
        (b'{"keys": []}', "the key set has no key that can be used"),
        (b'{"keys": [{"kty": "EC"}]}', "the key set has no key that can be used"),
        (b'{"keys": {}}', "a JWK set is an object whose member keys is a list"),
        (jwks("a", "a"), "two keys of the set have the same kid"),
        (StoreUnavailable("https://id.example: no answer"), "https://id.example: no answer"),
    ],
    ids=str,
)
def test_an7_a_set_that_cannot_be_used_changes_nothing(
    answer: int | bytes | Exception, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene("a")
    keys = scene.keys()
    ask(keys, "a")
    scene.idp.answer = answer
    scene.clock.advance(301)
    with caplog.at_level(logging.WARNING, "gatekit.authn"):
        refresh(keys)
    assert plain(keys, "a") is not None
    figures = status(keys)
    assert (figures["failures"], figures["stale"], figures["usable"], figures["keys"]) == (1, True, True, 1)
    assert str(figures["last_error"]).startswith(why)
    (event,) = stale_events(scene)
    assert (event.url, event.age) == (URL, 301.0)
    assert caplog.messages == [f"the key set of {URL} cannot be refreshed: {event.why}"]


def test_an7_an_outage_is_told_of_once_and_so_is_the_next_one(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene("a")
    keys = scene.keys()
    background = Background(keys, scene.clock)
    background.advance(0)
    for _ in range(2):
        scene.idp.down()
        scene.events.clear()
        with caplog.at_level(logging.WARNING, "gatekit.authn"):
            background.advance(3_600)
        (event,) = scene.events
        assert isinstance(event, KeySetStale)
        assert event.age is not None
        assert 300 <= event.age <= 360
        scene.idp.up()
        scene.events.clear()
        background.advance(60)
        assert scene.events == [KeySetRefreshed(URL, 1, False)]
        figures = status(keys)
        assert (figures["failures"], figures["last_error"], figures["stale"]) == (0, None, False)
    assert len(caplog.messages) == 2


def test_a_failure_while_the_keys_are_fresh_is_not_an_outage_yet() -> None:
    scene = Scene("a")
    keys = scene.keys()
    ask(keys, "a")
    scene.idp.down()
    scene.clock.advance(30)
    due = keys.jobs()[0].interval()
    with pytest.raises(StoreUnavailable):
        ask(keys, "x")
    assert stale_events(scene) == []
    assert keys.jobs()[0].interval() == due


def test_without_any_keys_the_outage_begins_at_once() -> None:
    scene = Scene("a")
    scene.idp.down()
    keys = scene.keys()
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            ask(keys, "a")
    assert stale_events(scene) == [KeySetStale(URL, None, "https://id.example: no answer within 5.0 s")]
    assert status(keys) == {
        "url": URL, "keys": 0, "kids": 0, "fetched_at": None, "age": None, "stale": True, "usable": False,
        "from_disk": False, "failures": 1, "last_error": "https://id.example: no answer within 5.0 s",
    }  # fmt: skip


def test_the_status_of_a_good_set() -> None:
    scene = Scene("a", "b")
    keys = scene.keys()
    ask(keys, "a")
    scene.clock.advance(12)
    assert status(keys) == {
        "url": URL, "keys": 2, "kids": 2, "fetched_at": 1_700_000_000.0, "age": 12.0, "stale": False, "usable": True,
        "from_disk": False, "failures": 0, "last_error": None,
    }  # fmt: skip


def test_an_error_that_nobody_thought_of_is_written_down_and_raised() -> None:
    scene = Scene("a")
    keys = scene.keys()
    ask(keys, "a")
    scene.idp.answer = ZeroDivisionError("secret")
    scene.clock.advance(270)
    with pytest.raises(ZeroDivisionError):
        refresh(keys)
    assert status(keys)["last_error"] == "unexpected ZeroDivisionError"
    assert plain(keys, "a") is not None
    scene.idp.up()
    scene.clock.advance(10)
    refresh(keys)
    assert status(keys)["failures"] == 0


def test_what_is_told_names_no_query_no_user_and_no_control_characters() -> None:
    scene = Scene("a")
    keys = scene.keys(url=URL + "?code=secret")
    scene.idp.answer = StoreUnavailable("https://u:secret@id.example/keys?code=secret: refused\r\n\x1b[31m" + "x" * 500)
    with pytest.raises(StoreUnavailable) as raised:
        ask(keys, "a")
    (event,) = stale_events(scene)
    job = keys.jobs()[0]
    for text in (repr(status(keys)), str(raised.value), repr(event), repr(job.key), repr(keys)):
        assert "secret" not in text
        assert "\n" not in text
    assert event.url == URL
    assert len(event.why) <= 200
