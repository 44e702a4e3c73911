"""API keys in a store: what is asked and how often, what is remembered, and what holds while the store is down."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.identity import Identity
from gatekit.core.outcome import Fault
from gatekit.core.policy import Job
from gatekit.core.ports import Cells, Ports
from gatekit.core.verdict import Reply
from gatekit.errors import MissingPort, MissingSecret, StoreUnavailable
from gatekit.policies.authn import api_keys, key_hash
from gatekit.policies.authn.key_hash import new_api_key
from gatekit.policies.authn.key_records import ABSENT, FRESH, MAX_ASKING, MAX_KEPT
from gatekit.policies.authn.keys import ApiKeys, BoundKeys
from gatekit.policies.authn.method import Verified
from gatekit.testing import ManualClock, SeededRandom, request, test_ports
from gatekit.testing.policies import step

RANDOM = SeededRandom(2)
ONE, TWO, STRANGER = (new_api_key(RANDOM.token) for _ in range(3))
URL = "redis://keys.example/0"

Answer = Identity | tuple[int, str]


class Records:
    """A store whose records are a dict, that counts what it is asked and can be down."""

    def __init__(self, **records: Mapping[str, Any]) -> None:
        self.records = dict(records)
        self.asked: list[str] = []
        self.down = False

    async def find(self, prefix: str) -> Mapping[str, Any] | None:
        self.asked.append(prefix)
        if self.down:
            raise StoreUnavailable("down")
        found = self.records.get(prefix)
        return None if found is None else dict(found)


class InMemory(Records):
    """A store that answers at once, as soon as it has been read."""

    def __init__(self, **records: Mapping[str, Any]) -> None:
        super().__init__(**records)
        self.loaded = False
        self.refreshed = Job("refresh", self.refresh, lambda: 1.0)

    async def refresh(self) -> None:
        self.loaded = not self.down

    async def find(self, prefix: str) -> Mapping[str, Any] | None:
        self.asked.append(prefix)
        await self.refresh()
        return self.known(prefix)

    def known(self, prefix: str) -> Mapping[str, Any] | None:
        if not self.loaded:
            raise StoreUnavailable("not read yet")
        return self.records.get(prefix)

    def jobs(self) -> Iterable[Job]:
        return [self.refreshed]

    def status(self) -> Mapping[str, Any]:
        return {"records": len(self.records)}


class OneStore:
    """`Stores` that opens one."""

    def __init__(self, store: Records) -> None:
        self.store = store
        self.opened: list[tuple[str, str]] = []

    def revocations(self, url: str, ports: Ports) -> Any:
        raise AssertionError("nobody asked for revocations")

    def api_keys(self, url: str, ports: Ports) -> Records:
        self.opened.append((url, ports.owner))
        return self.store


class World:
    """A policy over a store, and the clock."""

    def __init__(self, store: Records | None = None, method: ApiKeys | None = None, **ports: Any) -> None:
        self.store = Records(**{ONE.prefix: record("one", ONE)}) if store is None else store
        self.stores = OneStore(self.store)
        self.clock = ManualClock()
        self.cells = Cells()
        self.method = api_keys(source=URL) if method is None else method
        self.given = ports
        self.bound = self.bind()

    def bind(self, headers: Callable[[Identity], list[tuple[bytes, bytes]]] = lambda identity: []) -> BoundKeys:
        ports = test_ports(clock=self.clock, stores=self.stores, cells=self.cells, **self.given)
        return self.method.bind_to(ports, "gateway", headers)

    def ask(self, key: str, bound: BoundKeys | None = None) -> Answer:
        exchange = request(headers={"X-Api-Key": key})
        found = (self.bound if bound is None else bound).identify(exchange)
        if isinstance(found, Awaitable):
            found = step(found, "identify")  # type: ignore[arg-type]
        if isinstance(found, Reply):
            if found.status == 503:
                assert exchange.fault is Fault.GATEWAY
                assert found.headers == [(b"retry-after", b"1")]
            return found.status, found.reason
        assert isinstance(found, Verified)
        return found.identity


def record(id: str, key: Any, **more: Any) -> dict[str, Any]:
    return {"id": id, "hash": key.hash, **more}


GOOD = Identity("one", client="one", scheme="api_key")
INVALID = (401, "authn.invalid_key")
UNAVAILABLE = (503, "authn.keys_unavailable")


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


def near_miss() -> str:
    """A key of the form, of the prefix, and not the one."""
    body = f"gk_{ONE.prefix}_" + "0" * 32
    return body + key_hash.checksum(body.encode())
