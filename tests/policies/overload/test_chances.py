"""Shedding by chance: when the loop is late (OV4), and when what answers fails (OV6)."""

from __future__ import annotations

from typing import Any

import pytest

from gatekit.core.outcome import Fault, Grade, Outcome, client_gone, finished
from gatekit.core.policy import jobs_of
from gatekit.policies.overload import Overload
from gatekit.policies.overload.policy import BEAT
from gatekit.testing import decide, observe, request
from gatekit.testing.signals import Waiting

from .conftest import Scene, reason

BAD = finished(502, reason="upstream.refused", ours=True, fault=Fault.UPSTREAM)


def beating(scene: Scene, policy: Any) -> Waiting:
    (job,) = jobs_of(policy)
    return scene.signals.run(job.run())


def shed_of(scene: Scene, policy: Any, count: int, level: str = "default") -> float:
    """The share of so many that is shed now; nobody keeps a place."""
    shed = 0
    for _ in range(count):
        one = scene.come(policy, level)
        shed += reason(one) == "overload.lag"
        policy.observe(one.exchange, Outcome(200))
    return shed / count


def test_ov4_a_beat_that_is_overdue_counts_before_it_comes(scene: Scene) -> None:
    policy = scene.bind(Overload())
    beating(scene, policy)
    scene.signals.advance(10 * BEAT)
    assert shed_of(scene, policy, 50) == 0.0
    scene.clock.advance(BEAT + 0.05)
    assert shed_of(scene, policy, 50) == 0.0, "50 ms late: it begins"
    scene.clock.advance(0.1)
    assert shed_of(scene, policy, 400) == pytest.approx(0.5, abs=0.08)
    scene.clock.advance(0.1001)
    assert shed_of(scene, policy, 50) == 1.0, "250 ms late: everything"


def test_ov4_it_ends_with_the_beats_that_come_in_time(scene: Scene) -> None:
    policy = scene.bind(Overload())
    beating(scene, policy)
    scene.clock.advance(BEAT + 0.3)
    scene.signals.settle()
    assert shed_of(scene, policy, 50) == 1.0, "the beat has come, late as it was"
    scene.signals.advance(3 * BEAT)
    assert shed_of(scene, policy, 50) == 0.0
    assert policy.status()["lag"] < 0.05


def test_ov4_the_least_important_are_shed_first(scene: Scene) -> None:
    policy = scene.bind(Overload())
    beating(scene, policy)
    for _ in range(25):
        for level in ("critical", "default", "sheddable", "bulk"):
            decide(policy, request(facts={"priority": level}))
    scene.signals.advance(0.3)
    scene.clock.advance(BEAT + 0.1)
    assert shed_of(scene, policy, 20, "bulk") == 1.0, "a quarter of all is to be shed, and that is bulk"
    for level in ("critical", "default", "sheddable"):
        assert shed_of(scene, policy, 20, level) == 0.0


def test_ov4_health_checks_are_exempt(scene: Scene) -> None:
    policy = scene.bind(Overload(exempt=["/healthz"]))
    beating(scene, policy)
    scene.clock.advance(5.0)
    assert decide(policy, request("GET", "/healthz")) is None
    assert decide(policy, request("GET", "/other")) is not None


def test_a_job_that_ends_takes_its_lag_with_it(scene: Scene) -> None:
    policy = scene.bind(Overload())
    job = beating(scene, policy)
    scene.clock.advance(1.0)
    assert policy.status()["lag"] == pytest.approx(1.0 - BEAT)
    assert policy.status()["saturation"] > 1.0
    job.cancel()
    assert policy.status()["lag"] == 0.0


def test_several_policies_share_one_beat_for_each_loop(scene: Scene) -> None:
    first, second = scene.bind(Overload()), scene.bind(Overload(name="b", per="route"))
    (one,), (other,) = jobs_of(first), jobs_of(second)
    assert one.key == other.key
    assert one.interval() == BEAT
    beating(scene, first)
    scene.clock.advance(1.0)
    assert decide(second, request()) is not None


def test_without_lag_there_are_no_jobs(scene: Scene) -> None:
    assert list(jobs_of(scene.bind(Overload(1, lag=False)))) == []


def test_under_wsgi_the_lag_of_a_loop_sheds_nobody(scene: Scene) -> None:
    policy = scene.bind(Overload())
    beating(scene, policy)
    scene.clock.advance(5.0)
    exchange = request()
    exchange.scope["wsgi.version"] = (1, 0)
    assert decide(policy, exchange) is None


def test_shadow_counts_who_would_be_shed_for_lag(scene: Scene) -> None:
    policy = scene.bind(Overload(shadow=True))
    beating(scene, policy)
    scene.clock.advance(5.0)
    assert decide(policy, request()) is None
    assert policy.status()["scopes"]["gateway"]["would_shed"] == {"overload.lag": {"default": 1}}


# -- admission


def failing(scene: Scene, policy: Any, outcome: Outcome, count: int = 30) -> None:
    for _ in range(count):
        one = request()
        if decide(policy, one) is None:
            observe(policy, one, outcome)


def turned_away(scene: Scene, policy: Any, count: int, level: str = "default") -> float:
    found = [decide(policy, request(facts={"priority": level})) for _ in range(count)]
    assert {one.reason for one in found if one is not None} <= {"overload.admission"}
    return sum(one is not None for one in found) / count


def test_ov6_a_fifth_still_reaches_what_fails(scene: Scene) -> None:
    policy = scene.bind(Overload(admission=True))
    failing(scene, policy, BAD)
    scene.signals.advance(0.3)
    assert turned_away(scene, policy, 1000) == pytest.approx(0.8, abs=0.05)
    assert policy.status()["scopes"]["gateway"]["admission"] == 0.8


def test_ov6_it_ends_when_it_works_again(scene: Scene) -> None:
    policy = scene.bind(Overload(admission=True))
    failing(scene, policy, BAD)
    scene.signals.advance(31.0)
    failing(scene, policy, Outcome(200))
    scene.signals.advance(0.3)
    assert turned_away(scene, policy, 200) == 0.0


@pytest.mark.parametrize(
    "outcome",
    [
        client_gone(),
        finished(401, reason="authn.missing", ours=True),
        Outcome(500, fault=Fault.GATEWAY, grade=Grade.BAD),
        Outcome(404),
    ],
)
def test_what_says_nothing_of_the_destination_does_not_count_against_it(scene: Scene, outcome: Outcome) -> None:
    policy = scene.bind(Overload(admission=True))
    failing(scene, policy, outcome)
    scene.signals.advance(0.3)
    assert turned_away(scene, policy, 200) == 0.0


def test_ov6_the_least_important_are_held_back_first(scene: Scene) -> None:
    policy = scene.bind(Overload(admission=True))
    failing(scene, policy, BAD)
    for _ in range(300):
        decide(policy, request(facts={"priority": "critical"}))
        for _ in range(4):
            decide(policy, request(facts={"priority": "bulk"}))
    scene.signals.advance(0.3)
    assert turned_away(scene, policy, 100, "bulk") > 0.9
    assert turned_away(scene, policy, 100, "critical") < 0.15


def test_being_held_back_is_not_saturation(scene: Scene) -> None:
    policy = scene.bind(Overload(admission=True))
    failing(scene, policy, BAD)
    scene.signals.advance(0.3)
    turned_away(scene, policy, 100)
    assert policy.status()["saturation"] == 0.0


def test_streams_count_as_answered_when_they_begin(scene: Scene) -> None:
    from gatekit.core.head import ResponseHead

    policy = scene.bind(Overload(admission=True))
    for _ in range(30):
        one = request()
        decide(policy, one)
        policy.on_response(one, ResponseHead(101))
        policy.observe(one, client_gone())
    failing(scene, policy, BAD, 1)
    scene.signals.advance(0.3)
    assert turned_away(scene, policy, 100) == 0.0


def test_a_policy_without_admission_forgets_what_it_knew(scene: Scene) -> None:
    before = scene.bind(Overload(admission=True))
    failing(scene, before, BAD)
    after = scene.bind(Overload(10**6), scene.ports.afresh())
    assert turned_away(scene, after, 100) == 0.0
    assert after.status()["scopes"]["gateway"]["admission"] == 0.0
