"""Whatever happens to an issuer, in whatever order: good keys stay, made-up ones cost nothing, new ones are found."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.policies.authn.keysets_scene import Background, Scene, ask, jwks, plain, status

from gatekit.core.events import KeySetRefreshed, KeySetStale
from gatekit.core.ports import Fetched
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn.keyset_state import KeyState
from gatekit.testing.fakes import FakeDisk

KIDS = [f"k{index}" for index in range(5)]
STALE = 1_800.0
BROKEN: dict[str, int | bytes | Exception] = {
    "down": StoreUnavailable("no answer"),
    "error": 500,
    "page": b"<html>",
    "empty": b'{"keys": []}',
    "twice": jwks("k0", "k0"),
}


class KeySetMachine(RuleBasedStateMachine):
    """`good` is what the last good fetch brought and when it was; everything is judged by that."""

    @initialize(kids=st.sets(st.sampled_from(KIDS), min_size=1), state=st.sampled_from(["up", *BROKEN]))
    def begin(self, kids: set[str], state: str) -> None:
        self.disk = FakeDisk()
        self.scene = Scene(*kids)
        self.good: tuple[frozenset[str], float] | None = None
        self.unknown: dict[str, float] = {}
        self.caused: tuple[float, bool] | None = None
        self.made_up = 0
        self.answers(state)
        self.adopt(self.scene)

    def adopt(self, scene: Scene) -> None:
        """A process that begins now."""
        fetch = self.scene.idp.__call__

        async def noted(*args: object, **kwargs: object) -> Fetched:
            self.fetched, self.last, self.failing = True, self.now, self.scene.idp.answer is not None
            if not self.failing:
                self.good = (frozenset(self.scene.idp.kids), self.now)
                # What a request had fetched in vain no longer counts once a fetch went well.
                self.caused = self.caused if self.caused is None or self.caused[1] else None
            return await fetch(*args, **kwargs)  # type: ignore[arg-type]

        self.fetched, self.last, self.failing = False, -1e9, False
        self.scene = Scene(clock=scene.clock, fetch=noted, disk=self.disk)
        self.scene.clock, self.scene.idp = scene.clock, scene.idp
        self.keys = self.scene.keys(stale=STALE)
        self.background = Background(self.keys, scene.clock)
        self.looked = False

    @property
    def now(self) -> float:
        return self.scene.clock.monotonic()

    @property
    def state(self) -> KeyState:
        (state,) = self.scene.ports.cells._cells.values()
        assert isinstance(state, KeyState)
        return state

    @property
    def held(self) -> frozenset[str]:
        """What must be known: what came last, unless that was too long ago."""
        return self.good[0] if self.good is not None and self.now - self.good[1] <= STALE else frozenset()

    @rule(state=st.sampled_from(["up", "up", *BROKEN]))
    def answers(self, state: str) -> None:
        self.scene.idp.answer = BROKEN.get(state)

    @rule(kids=st.sets(st.sampled_from(KIDS), min_size=1))
    def rotate(self, kids: set[str]) -> None:
        self.scene.idp.kids = sorted(kids)

    @rule(seconds=st.sampled_from([0.5, 7.0, 29.0, 30.0, 61.0, 250.0, 301.0]))
    def time_passes(self, seconds: float) -> None:
        self.scene.clock.advance(seconds)

    @rule(seconds=st.sampled_from([0.0, 5.0, 31.0, 301.0, STALE + 1]))
    def the_background_runs(self, seconds: float) -> None:
        self.looked = True
        self.background.advance(seconds)

    @rule()
    def the_process_restarts(self) -> None:
        self.adopt(self.scene)
        for data in self.disk.files.values():
            # What did not change is not saved each time.
            assert self.good is not None
            age = self.scene.clock.wall() - json.loads(data)["fetched_at"]
            assert -1e-3 < age - (self.now - self.good[1]) <= STALE / 24
            self.good = (self.good[0], self.now - age)
        self.unknown.clear()
        self.caused = None

    @rule(kid=st.sampled_from(KIDS))
    def somebody_asks(self, kid: str) -> None:
        usable, published = bool(self.held), self.scene.idp.answer is None and kid in self.scene.idp.kids
        known = kid in self.held and self.looked
        may_ask = self._may_ask() and self.now >= self.unknown.get(kid, -1e9) + 300
        if known:
            assert plain(self.keys, kid) is not None
            return
        found = self._asked(kid, usable)
        if published and may_ask:
            assert found is True
        assert (found is True) == (kid in self.held)

    @rule(count=st.integers(1, 30))
    def somebody_makes_up_key_ids(self, count: int) -> None:
        for _ in range(count):
            self.made_up += 1
            usable = bool(self.held)
            assert self._asked(f"made-up-{self.made_up}", usable) is not True

    def _may_ask(self) -> bool:
        """Whether the cooldown lets a request fetch: by the last one that did and, while fetching fails, by anybody's."""
        since = self.last if self.failing else self.caused[0] if self.caused is not None else -1e9
        return self.now - since >= 30

    def _asked(self, kid: str, usable: bool) -> bool | None:
        """Whether there is that key, None where it cannot be told."""
        self.fetched, self.looked = False, True
        allowed = self._may_ask()
        try:
            found: bool | None = ask(self.keys, kid) is not None
        except StoreUnavailable:
            found = None
        if self.fetched:
            assert allowed
            # The fetch that brings the first keys was for no key id in particular, and does not count.
            self.caused = (self.now, usable) if usable or self.failing else None
            if found is False:
                self.unknown[kid] = self.now
        return found

    @precondition(lambda self: hasattr(self, "scene"))
    @invariant()
    def what_is_good_is_known_at_once(self) -> None:
        if self.looked:
            for kid in self.held:
                assert plain(self.keys, kid) is not None

    @precondition(lambda self: hasattr(self, "scene"))
    @invariant()
    def everything_is_bounded_and_nothing_is_left_under_way(self) -> None:
        state = self.state
        assert len(state.unknown) <= 1_024
        assert (state.waiting, state.flight) == (0, None)

    @precondition(lambda self: hasattr(self, "scene"))
    @invariant()
    def the_figures_are_right(self) -> None:
        figures = status(self.keys)
        if self.looked:
            assert figures["usable"] is bool(self.held)
        assert (figures["failures"] == 0) is (figures["last_error"] is None)
        outages = [event for event in self.scene.events if isinstance(event, (KeySetStale, KeySetRefreshed))]
        for before, after in pairwise(outages):
            assert not isinstance(before, KeySetStale) or not isinstance(after, KeySetStale)


TestKeySets = KeySetMachine.TestCase
TestKeySets.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
