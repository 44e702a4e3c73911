"""Places and the queue before them, driven by hand on the virtual clock."""

from __future__ import annotations

from typing import Any

import pytest

from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Fault, Outcome, client_gone
from gatekit.core.policy import Hooks
from gatekit.core.ports import Ports
from gatekit.errors import MissingPort
from gatekit.mechanisms.limiter import Limiter
from gatekit.policies.overload import Overload
from gatekit.testing import ManualClock, decide, request, test_ports

from .conftest import Scene, figures, plan, reason


def test_with_room_decide_says_none_at_once(scene: Scene) -> None:
    policy = scene.bind(Overload(2))
    assert policy.decide(request()) is None
    assert policy.decide(request()) is None
    assert figures(policy)["in_flight"] == 2


def test_without_a_queue_the_next_is_turned_away_at_once(scene: Scene) -> None:
    policy = scene.bind(Overload(1, queue=0))
    first, second = scene.come(policy), scene.come(policy)
    assert reason(first) is None
    assert reason(second) == "overload.concurrency"
    assert second.exchange is not None
    assert second.exchange.fault is Fault.GATEWAY
    scene.finish(policy, second)
    assert figures(policy)["in_flight"] == 1, "who was turned away had no place to give back"
    scene.finish(policy, first)
    assert reason(scene.come(policy)) is None


def test_a_place_that_is_given_back_goes_to_who_waits_longest(scene: Scene) -> None:
    policy = scene.bind(Overload(1, queue=2))
    first, second, third = (scene.come(policy) for _ in range(3))
    assert second.waiting
    assert third.waiting
    scene.finish(policy, first)
    assert reason(second) is None
    assert third.waiting
    scene.finish(policy, second)
    assert reason(third) is None


def test_a_full_queue_turns_away(scene: Scene) -> None:
    policy = scene.bind(Overload(1, queue=1))
    scene.come(policy), scene.come(policy)
    assert reason(scene.come(policy)) == "overload.queue_full"


def test_nobody_waits_longer_than_max_wait(scene: Scene) -> None:
    policy = scene.bind(Overload(1, queue=1, max_wait="2s"))
    scene.come(policy)
    waiting = scene.come(policy)
    scene.signals.advance(1.999)
    assert waiting.waiting
    scene.signals.advance(0.001)
    assert reason(waiting) == "overload.queue_timeout"
    assert figures(policy)["waiting"] == 0


def test_a_standing_queue_serves_the_newest_and_lets_the_oldest_go(scene: Scene) -> None:
    policy = scene.bind(Overload(1, queue=10, max_wait="1s"))
    holder, old = scene.come(policy), scene.come(policy)
    scene.signals.advance(0.26)
    new = scene.come(policy)
    scene.finish(policy, holder)
    assert old.waiting
    assert reason(new) is None, "a quarter of max_wait without being empty: the newest first"
    scene.signals.advance(0.25)
    late = scene.come(policy)
    scene.signals.settle()
    assert reason(old) == "overload.queue_timeout", "after half of it the old ones are let go"
    assert late.waiting


def test_the_more_important_goes_first_and_takes_the_place_of_the_less(scene: Scene) -> None:
    policy = scene.bind(Overload(1, queue=2))
    holder = scene.come(policy, "default")
    bulk, sheddable = scene.come(policy, "bulk"), scene.come(policy, "sheddable")
    critical = scene.come(policy, "critical")
    scene.signals.settle()
    assert reason(bulk) == "overload.queue_full", "the queue was full, and it was the least important in it"
    assert reason(scene.come(policy, "bulk")) == "overload.queue_full"
    scene.finish(policy, holder)
    assert reason(critical) is None
    assert sheddable.waiting


def test_shares_hold_only_while_something_more_important_comes(scene: Scene) -> None:
    policy = scene.bind(Overload(4, queue=0))
    alone = [reason(scene.come(policy, "bulk")) for _ in range(4)]
    assert alone == [None] * 4, "nothing else comes: bulk may fill it all"


def test_shares_keep_room_for_the_more_important(scene: Scene) -> None:
    policy = scene.bind(Overload(4, queue=0))
    critical = scene.come(policy, "critical")
    scene.finish(policy, critical)
    scene.signals.advance(0.3)
    assert [reason(scene.come(policy, "bulk")) for _ in range(3)] == [None, None, "overload.concurrency"]
    assert [reason(scene.come(policy, "sheddable")) for _ in range(2)] == [None, "overload.concurrency"]
    assert [reason(scene.come(policy, "default")) for _ in range(1)] == ["overload.concurrency"]
    assert reason(scene.come(policy, "critical")) is None
    assert reason(scene.come(policy, "critical")) == "overload.concurrency"


def test_an_unknown_priority_is_default(scene: Scene) -> None:
    policy = scene.bind(Overload(1, queue=0))
    policy.decide(request(facts={"priority": "vip"}))
    scene.come(policy, "nonsense")
    assert figures(policy)["shed"] == {"overload.concurrency": {"default": 1}}


@pytest.mark.parametrize("moment", ["while waiting", "when it had been let in", "when it had been let go"])
def test_who_is_cancelled_while_waiting_leaves_no_trace(scene: Scene, moment: str) -> None:
    policy = scene.bind(Overload(1, queue=2, max_wait="1s"))
    holder, gone, next_one = (scene.come(policy) for _ in range(3))
    if moment == "when it had been let in":
        policy.observe(holder.exchange, client_gone())
    elif moment == "when it had been let go":
        scene.clock.advance(0.5)
        scene.come(policy)
    gone.cancel()
    policy.observe(gone.exchange, client_gone())
    scene.signals.settle()
    if moment == "when it had been let in":
        assert reason(next_one) is None, "the place goes on to the next"
    elif moment == "while waiting":
        assert next_one.waiting
        scene.finish(policy, holder)
        assert reason(next_one) is None
    assert figures(policy)["in_flight"] == 1
    assert figures(policy)["waiting"] == (1 if moment == "when it had been let go" else 0)


def test_a_place_that_is_handed_over_at_the_last_moment_is_not_lost(scene: Scene) -> None:
    policy = scene.bind(Overload(1, queue=2, max_wait="1s"))
    holder, waiting = scene.come(policy), scene.come(policy)
    scene.clock.advance(1.0)
    policy.observe(holder.exchange, Outcome(200))
    scene.signals.settle()
    assert reason(waiting) == "overload.queue_timeout", "its time was over before the place came"
    assert figures(policy)["in_flight"] == 0
    assert reason(scene.come(policy)) is None


@pytest.mark.parametrize("head", [ResponseHead(101), ResponseHead(200, [(b"content-type", b"text/event-stream")])])
def test_streams_give_their_place_back_when_they_begin(scene: Scene, head: ResponseHead) -> None:
    policy = scene.bind(Overload(1, queue=1))
    stream, waiting = scene.come(policy), scene.come(policy)
    policy.on_response(stream.exchange, head)
    scene.signals.settle()
    assert reason(waiting) is None
    policy.observe(stream.exchange, Outcome(200))
    assert figures(policy)["in_flight"] == 1, "its end gives nothing back a second time"


def test_streams_keep_their_place_where_it_is_wanted(scene: Scene) -> None:
    policy = scene.bind(Overload(1, queue=0, hold_streams=True))
    stream = scene.come(policy)
    policy.on_response(stream.exchange, ResponseHead(101))
    assert reason(scene.come(policy)) == "overload.concurrency"
    scene.finish(policy, stream)
    assert reason(scene.come(policy)) is None


def test_another_response_head_gives_nothing_back(scene: Scene) -> None:
    policy = scene.bind(Overload(1, queue=0))
    one = scene.come(policy)
    policy.on_response(one.exchange, ResponseHead(200))
    assert figures(policy)["in_flight"] == 1


@pytest.mark.parametrize(
    ("target", "route", "exempt"),
    [
        ("/healthz", None, True),
        ("/healthz/", None, False),
        ("/internal", None, True),
        ("/internal/a/b", None, True),
        ("/internals", None, False),
        ("/x", "probe", True),
        ("/x", "other", False),
        ("/x", None, False),
    ],
)
def test_what_is_exempt_is_let_in_and_takes_no_place(
    scene: Scene, target: str, route: str | None, exempt: bool
) -> None:
    policy = scene.bind(Overload(1, queue=0, exempt=["/healthz", "/internal/*", "probe"]))
    scene.come(policy)
    exchange = request("GET", target)
    if route is not None:
        exchange.route = plan(route)
    assert (decide(policy, exchange) is None) is exempt
    policy.observe(exchange, Outcome(200))
    assert figures(policy)["in_flight"] == 1


def test_two_that_would_count_as_one_are_refused(scene: Scene) -> None:
    scene.bind(Overload(1))
    with pytest.raises(ValueError, match="give each a name"):
        scene.bind(Overload(2))
    scene.bind(Overload(2, name="second"))
    scene.bind(Overload(2, per="route"))


@pytest.mark.parametrize("settings", [{"lag": False}, {"queue": 0}])
def test_what_waits_needs_signals_and_says_so_when_it_is_bound(settings: Any) -> None:
    bare = Ports(clock=ManualClock(), random=test_ports().random)
    with pytest.raises(MissingPort, match="signals"):
        Overload(1, **settings).bind(bare)
    assert Overload(1, queue=0, lag=False).bind(bare) is not None


@pytest.mark.parametrize(
    ("settings", "processes", "limit", "queue"),
    [
        ({"concurrency": 100, "queue": 40}, 4, 25, 10),
        ({"concurrency": 2, "queue": 2}, 4, 1, 1),
        ({"concurrency": 100, "queue": 40, "divide": False}, 4, 100, 40),
        ({"concurrency": 100, "queue": 0}, 4, 25, 0),
        ({"queue": 40}, 4, float("inf"), 0),
    ],
)
def test_processes_share_a_limit_unless_told_otherwise(settings: Any, processes: int, limit: float, queue: int) -> None:
    rules = Overload(**settings).rules(processes)
    assert (rules.limit, rules.bounds.queue) == (limit, queue)


def test_ports_say_how_many_processes_there_are(scene: Scene) -> None:
    policy = Overload(4, queue=0, lag=False).bind(test_ports(processes=4))
    assert [reason(scene.come(policy)) for _ in range(2)] == [None, "overload.concurrency"]


def test_shadow_lets_everybody_in_and_counts_who_would_not_be(scene: Scene) -> None:
    policy = scene.bind(Overload(1, queue=1, shadow=True))
    came = [scene.come(policy) for _ in range(4)]
    assert [reason(one) for one in came] == [None] * 4
    told = figures(policy)
    assert told["would_shed"] == {"overload.queue_full": {"default": 2}}
    assert told["shed"] == {}
    assert told["in_flight"] == 4
    for one in came:
        scene.finish(policy, one)
    assert figures(policy)["in_flight"] == 0
    bare = scene.bind(Overload(1, queue=0, shadow=True, name="bare"))
    came = [scene.come(bare) for _ in range(2)]
    assert figures(bare)["would_shed"] == {"overload.concurrency": {"default": 1}}


def test_threads_run_its_hooks_without_a_lock(scene: Scene) -> None:
    policy = scene.bind(Overload(1))
    hooks = Hooks(Overload(1), policy, scene.ports.lock)
    assert hooks.decide == policy.decide


def test_explain_says_what_would_happen_and_takes_no_place(scene: Scene) -> None:
    policy = scene.bind(Overload(5, queue=0, exempt=["/healthz"]))
    assert list(policy.explain(request("GET", "/healthz"))) == ["exempt: it is never turned away here"]
    policy.decide(request())
    told = list(policy.explain(request(facts={"priority": "bulk"})))
    assert told == ["bulk, counted under gateway", "1 under way of 5 that its level may fill, 0 waiting"]
    assert figures(policy)["in_flight"] == 1
    unlimited = scene.bind(Overload(shadow=True, per="route"))
    assert list(unlimited.explain(request())) == [
        "default unless a priority says otherwise, counted under -",
        "shadow: it is let in whatever is said",
    ]


def test_without_a_limit_it_counts_all_the_same(scene: Scene) -> None:
    policy = scene.bind(Overload())
    for _ in range(3):
        policy.decide(request())
    assert figures(policy)["limit"] is None
    assert figures(policy)["in_flight"] == 3


def test_status_tells_how_long_they_wait(scene: Scene) -> None:
    policy = scene.bind(Overload(1, queue=5, max_wait="10s"))
    scene.come(policy), scene.come(policy)
    scene.signals.advance(1.5)
    told = figures(policy)
    assert (told["waiting"], told["oldest_wait"], told["saturation"]) == (1, 1.5, 2.0)


def test_who_finds_room_between_two_looks_is_let_in(scene: Scene) -> None:
    """What threads may do: a place is given back just after there was none."""
    policy = scene.bind(Overload(1))

    class Racing(Limiter[Any, Any]):
        raced = False

        def enter(self, holder: Any, level: int, now: float) -> bool:
            first, self.raced = not self.raced, True
            return not first and super().enter(holder, level, now)

    policy._one.limiter = Racing(policy._one.rules.bounds, 1)
    assert reason(scene.come(policy)) is None
    assert figures(policy)["in_flight"] == 1


def test_a_stream_that_was_refused_within_says_nothing_of_what_would_answer_it(scene: Scene) -> None:
    policy = scene.bind(Overload(1, queue=0, admission={"least": 1}))
    one = scene.come(policy)
    assert one.exchange is not None
    one.exchange.reason = "websocket.refused"
    policy.on_response(one.exchange, ResponseHead(101))
    assert policy._one._success._all.total(scene.clock.monotonic()) == 0


def test_ports_without_owner_serve_too() -> None:
    ports = Ports(clock=ManualClock(), random=test_ports().random)
    assert Overload(1, queue=0, lag=False).bind(ports).decide(request()) is None
