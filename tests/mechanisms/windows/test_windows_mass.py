"""RL2: a hundred thousand random schedules, each decision against the definition of its algorithm. No Hypothesis, for speed:
a failure tells its seed."""

from __future__ import annotations

import math
import random

import pytest

from gatekit.core.counters import Limit
from gatekit.mechanisms.windows import ALGORITHMS, State, Window

from .references import REFERENCES, TICKS, Log, Spent, Terms, held

SCHEDULES = 100_000 // len(ALGORITHMS)
STEPS = 9

AMOUNTS = [1, 2, 3, 5, 8, 16]
PERIODS = [1, 2, 3, 8, 60, 64]


def test_every_algorithm_has_a_reference() -> None:
    assert set(REFERENCES) == set(ALGORITHMS)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_rl2_each_decision_is_that_of_the_reference_on_very_many_random_schedules(name: str) -> None:
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    allowed = refused = 0
    for number in range(SCHEDULES):
        where = (name, seed, number)
        ups, downs = one_schedule(name, dice, where)
        allowed += ups
        refused += downs
    assert min(allowed, refused) > SCHEDULES


def one_schedule(name: str, dice: random.Random, where: object) -> tuple[int, int]:
    """How often it was allowed and how often refused."""
    terms = Terms(dice.choice(AMOUNTS), dice.choice(PERIODS) * TICKS)
    window = ALGORITHMS[name](Limit(terms.amount, terms.period / TICKS, name))
    # Mostly a few ticks further, sometimes a period or many.
    gaps = [0, 1, 5, terms.period // terms.amount, terms.period // 2, terms.period - 1, terms.period, 3 * terms.period]
    log, counts = Log(), [0, 0]
    state: State = ()
    now = dice.randrange(1 << 20)
    for mark in range(STEPS):
        now += dice.choice(gaps)
        cost = dice.choice((0, 1, 1, 1, 2, 3, terms.amount, terms.amount + 1))
        if dice.random() < 0.2:
            state = charged(
                name, window, state, log, terms, Spent(now, dice.choice((-3, -1, 2)), dice.randrange(mark + 1))
            )
        state, fitted = taken(name, window, state, log, terms, Spent(now, cost, mark), where)
        counts[fitted] += 1
    return counts[True], counts[False]


def charged(name: str, window: Window, state: State, log: Log, terms: Terms, spent: Spent) -> State:
    # What becomes of states that are full, of which no limit lets so much through, is tested by itself.
    if name == "sliding_log" and spent.cost > 0 and len(log) >= terms.amount:
        return state
    if name == "concurrency" and held(log, terms, spent.when) // terms.period + spent.cost > 2 * terms.amount:
        return state
    log.append(spent)
    return window.charge(state, spent.when / TICKS, spent.cost, spent.mark)


def taken(
    name: str, window: Window, state: State, log: Log, terms: Terms, asked: Spent, where: object
) -> tuple[State, bool]:
    scale, amount = terms.period, terms.amount
    before = REFERENCES[name](log, terms, asked.when)
    fits = before + asked.cost * scale <= amount * scale
    now = asked.when / TICKS
    after, answer = window.take(state, now, asked.cost, asked.mark)
    assert answer.allowed == fits, where
    if fits and asked.cost:
        log.append(asked)
        before += asked.cost * scale
    else:
        assert after is state, where
    assert answer.remaining == max(0, (amount * scale - before) // scale), where
    if fits:
        assert answer.retry_after == 0.0, where
    elif asked.cost > amount:
        assert answer.retry_after == math.inf, where
    else:
        # Time in ticks is whole, so that the moment is known to a tick.
        later = now + answer.retry_after
        assert window.take(after, later, asked.cost, asked.mark)[1].allowed, where
        tick = math.ceil(later * TICKS - 1e-6)
        assert REFERENCES[name](log, terms, tick) + asked.cost * scale <= amount * scale, where
        if tick - 1 > asked.when:
            assert REFERENCES[name](log, terms, tick - 1) + asked.cost * scale > amount * scale, where
    whole = now + answer.reset_after
    assert window.take(after, whole + 1e-6, 0)[1].remaining == amount, where
    assert not REFERENCES[name](log, terms, math.ceil(whole * TICKS)) // scale, where
    if answer.reset_after > 0.02:
        assert REFERENCES[name](log, terms, math.floor(whole * TICKS - 1e-6)) > 0, where
    assert (answer.reset_after > 1e-9) == (before > 0), where
    return after, fits
