"""Leases of several processes: nothing is admitted that was not taken from the counter shortly before, whatever happens in
what order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from gatekit.core.counters import Limit
from gatekit.mechanisms.leases import SHARE, Lease, Stand, answers

from .leased import Granted, Shared

ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["use", "use", "use", "ask", "arrive", "lose", "back", "burst"]),
        st.sampled_from([0.0, 0.001, 0.013, 0.04, 0.11, 0.3]),
        st.integers(1, 9),
    ),
    max_size=120,
)


class Fleet:
    """Three processes on one counter. What they ask for arrives when it does, or never."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.shared = Shared(limit)
        self.now = 100.37
        self.leases = [Lease(limit, self.now) for _ in range(3)]
        self.under_way: list[tuple[Lease, int, Granted, float]] = []
        self.admitted: list[tuple[float, int]] = []
        self.exact = 0

    def act(self, number: int, what: str, seconds: float, cost: int) -> None:
        lease = self.leases[number]
        self.now += seconds
        if what == "use":
            self.use(lease, cost)
        elif what == "burst":
            for _ in range(30):
                self.use(lease, 1)
        elif what == "ask":
            self.ask(lease)
        elif what == "arrive" and self.under_way:
            self.arrive()
        elif what == "lose" and self.under_way:
            lease, wanted, granted, _ = self.under_way.pop()
            # The server has given it, and nobody will ever use it.
            lease.failed(wanted, self.now)
            self.shared.given -= granted.amount
        elif what == "back":
            amount = lease.give_back(self.now)
            assert amount >= 0
            if amount:
                self.shared.give_back(amount, self.now)

    def ask(self, lease: Lease) -> None:
        wanted = lease.asking(self.now)
        if wanted:
            self.under_way.append((lease, wanted, self.shared.lease(wanted, self.now), self.now))

    def arrive(self) -> None:
        lease, wanted, granted, sent = self.under_way.pop(0)
        lease.granted(wanted, *granted, sent, self.now)

    def use(self, lease: Lease, cost: int) -> None:
        lease.use.add(cost, self.now)
        found = answers([lease], [cost], self.now)
        if found is Stand.LACKS:
            self.ask(lease)
            if self.under_way:
                self.arrive()
            found = answers([lease], [cost], self.now)
        if isinstance(found, list):
            allowed = found[0].allowed
            assert found[0].remaining >= 0
            assert found[0].retry_after == 0.0 or not allowed
        else:
            taken = self.shared.take(cost, self.now)
            lease.exactly(taken, cost, self.now)
            allowed = taken.allowed
        if allowed:
            self.admitted.append((self.now, cost))

    def stretches(self) -> Iterator[tuple[float, int]]:
        """How long, and how much was admitted, from each admission to each later one."""
        for at, (begin, _) in enumerate(self.admitted):
            total = 0
            for moment, cost in self.admitted[at:]:
                total += cost
                yield moment - begin, total

    @property
    def held(self) -> int:
        return sum(lease.left for lease in self.leases)


def played(limit: Limit, actions: Sequence[tuple[int, str, float, int]]) -> Fleet:
    fleet = Fleet(limit)
    for action in actions:
        fleet.act(*action)
        most = int(limit.amount * SHARE)
        assert all(0 <= lease.left <= most for lease in fleet.leases)
    return fleet


@given(actions=ACTIONS, algorithm=st.sampled_from(["token_bucket", "fixed_window", "sliding_window"]))
def test_rl7_nothing_is_admitted_that_was_not_taken_before(
    actions: Sequence[tuple[int, str, float, int]], algorithm: str
) -> None:
    fleet = played(Limit(200, 1.0, algorithm), actions)
    assert sum(cost for _, cost in fleet.admitted) + fleet.held <= fleet.shared.given


@given(actions=ACTIONS)
def test_rl7_a_bucket_is_exceeded_by_what_was_held_at_most(actions: Sequence[tuple[int, str, float, int]]) -> None:
    limit = Limit(200, 1.0)
    fleet = played(limit, actions)
    bound = limit.amount + 3 * int(limit.amount * SHARE)
    assert all(total <= bound + seconds * limit.amount / limit.period + 1 for seconds, total in fleet.stretches())


@given(actions=ACTIONS)
def test_rl7_a_fixed_window_is_never_exceeded(actions: Sequence[tuple[int, str, float, int]]) -> None:
    fleet = played(Limit(200, 1.0, "fixed_window"), actions)
    windows: dict[int, int] = {}
    for moment, cost in fleet.admitted:
        windows[int(moment)] = windows.get(int(moment), 0) + cost
    assert max(windows.values(), default=0) <= 200
