"""OV1, OV2 and OV3, in a world with a clock that is a number: what is shown here holds for the policy itself. What a real
server and a real upstream make of it is for the drills."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatekit.policies.overload import Overload

from .world import World

# Minutes of a busy server are some seconds of one core, and many where coverage is measured on a busy machine.
pytestmark = pytest.mark.timeout(240)

SECONDS = 60.0


def test_ov1_at_three_times_capacity_goodput_and_latency_hold() -> None:
    """Goodput at least 90 % of the peak, p99 of what is accepted at most twice that at 80 % load, for 60 s."""
    spec = Overload(12, queue=20, lag=False)
    usual, flood = World(spec, workers=10, mean=0.2), World(spec, workers=10, mean=0.2, seed=2)
    usual.come(0.8 * usual.capacity, SECONDS)
    usual.run(SECONDS + 5)
    flood.come(3.0 * flood.capacity, SECONDS)
    flood.run(SECONDS + 5)
    assert usual.shed_share(0, SECONDS) < 0.01
    assert flood.goodput(1, SECONDS) >= 0.9 * flood.capacity
    assert flood.percentile(0.99, 0, SECONDS) <= 2.0 * usual.percentile(0.99, 0, SECONDS)


def test_the_world_itself_suffers_without_a_limit() -> None:
    """What OV1 is held against: the same flood with no policy in front."""
    world = World(workers=10, mean=0.2)
    world.come(3.0 * world.capacity, 20.0)
    world.run(60.0)
    assert world.percentile(0.99, 0, 20.0) > 20.0


def more_workers(world: World) -> None:
    world.backend.workers *= 2
    world.backend.look()


def fewer_workers(world: World) -> None:
    world.backend.workers //= 2


def faster(world: World) -> None:
    world.mean /= 2


def slower(world: World) -> None:
    world.mean *= 2


@pytest.mark.parametrize("change", [more_workers, fewer_workers, faster, slower])
def test_ov2_it_converges_within_30_s_after_capacity_has_changed_twofold(change: Callable[[World], None]) -> None:
    """The best static limit of this backend is as many as it has workers: fewer leave some idle, more only wait in it."""
    begin, moment = 20, 15.0
    world = World(Overload("adaptive", initial=begin, lag=False), workers=begin, mean=0.05, seed=11)
    before = world.capacity
    world.record(0.25, moment + 50)
    if change in (more_workers, faster):
        world.come(3.0 * before, moment + 50)
    else:
        world.come(1.5 * before, moment + 50)
    world.run(moment)
    change(world)
    world.run(moment + 50)
    late = [limit for at, limit in world.limits if at >= moment + 30 and limit is not None]
    assert sum(late) / len(late) == pytest.approx(world.backend.workers, rel=0.2)
    assert world.goodput(moment + 30, moment + 50) >= 0.85 * world.capacity


def test_ov2_it_finds_the_limit_from_far_above_in_the_middle_of_a_flood() -> None:
    world = World(Overload("adaptive", initial=200, lag=False), workers=20, mean=0.05, seed=3)
    world.record(0.25, 50)
    world.come(2.0 * world.capacity, 50)
    world.run(50)
    late = [limit for at, limit in world.limits if at >= 30 and limit is not None]
    assert sum(late) / len(late) == pytest.approx(20, rel=0.2)


@pytest.mark.parametrize("initial", [20, 50])
@pytest.mark.parametrize("seed", [1, 2])
def test_ov2_no_window_sheds_while_load_is_below_80_percent(initial: int, seed: int) -> None:
    world = World(Overload("adaptive", initial=initial, lag=False), workers=20, mean=0.05, seed=seed)
    world.come(0.79 * world.capacity, 40)
    world.run(45)
    assert max(world.shed_share(at / 4, at / 4 + 1) for at in range(160)) <= 0.01


def test_ov2_after_a_flood_it_sheds_no_more_once_load_is_below_80_percent() -> None:
    world = World(Overload("adaptive", initial=50, lag=False), workers=20, mean=0.05, seed=4)
    world.come(2.0 * world.capacity, 25)
    world.run(25)
    world.come(0.79 * world.capacity, 50)
    world.run(55)
    # What waits when the flood ends is still of the flood.
    assert max(world.shed_share(at / 4, at / 4 + 1) for at in range(4 * 27, 4 * 49)) <= 0.01


MIX = (("critical", 0.15), ("default", 0.25), ("sheddable", 0.3), ("bulk", 0.3))


@pytest.mark.parametrize("seed", [1, 2])
def test_ov3_at_twice_capacity_the_critical_succeed_and_bulk_does_not(seed: int) -> None:
    """Critical at least 99.5 %, bulk at most 10 %, and the order never inverted over any second. A limit that leaves the
    critical their share: a tenth above what the backend can do, as an adaptive one has it."""
    world = World(Overload(24, queue=20, lag=False), workers=20, mean=0.05, seed=seed)
    world.come(2.0 * world.capacity, 20.0, MIX)
    world.run(25.0)
    success = {level: 1.0 - world.shed_share(0, 20, level) for level, _ in MIX}
    assert success["critical"] >= 0.995
    assert success["bulk"] <= 0.10
    for at in range(4 * 19):
        each = [1.0 - world.shed_share(at / 4, at / 4 + 1, level) for level, _ in MIX]
        assert each == sorted(each, reverse=True), f"in the second from {at / 4}"
