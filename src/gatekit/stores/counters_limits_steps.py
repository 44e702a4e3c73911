"""How a storage of the package `limits` counts: its own few calls, put together to a decision.

Nothing here bounds time or says what went wrong: whoever calls does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from math import floor, inf
from typing import Any, Final, NamedTuple

from gatekit.core.counters import Taken

_BOUNDLESS: Final = 2**31
"""A limit that nothing reaches, for what is spent whether it fits or not."""

_TICK: Final = 0.001
"""Seconds by which a server counts time."""


class Counter(NamedTuple):
    """One counter in the storage, and what is asked of it."""

    name: str
    algorithm: str
    amount: int
    period: int
    cost: int


class _Seen(NamedTuple):
    """How a counter stands: what is spent, and in how many seconds everything is back (as it is, or once something has
    been spent now) or this cost fits. Where a storage does not tell exactly, it is no less than that."""

    spent: int
    back_in: float
    back_after: float
    fits_in: float


def _told(counter: Counter, seen: _Seen, *, allowed: bool, spend: int = 0) -> Taken:
    left = min(counter.amount, max(0, counter.amount - seen.spent - spend))
    if allowed:
        return Taken(True, left, seen.back_after if spend else seen.back_in, 0.0)
    return Taken(False, left, seen.back_in, inf if counter.cost > counter.amount else seen.fits_in)


async def take(storage: Any, counters: Sequence[Counter]) -> list[Taken]:
    if len(counters) == 1 and counters[0].algorithm == "fixed_window" and 0 < counters[0].cost <= counters[0].amount:
        return [await _take_fixed(storage, counters[0])]
    seen = await all_of(_look(storage, counter) for counter in counters)
    fits = [now.spent + counter.cost <= counter.amount for counter, now in zip(counters, seen, strict=True)]
    if not all(fits) or not any(counter.cost for counter in counters):
        return [_told(c, now, allowed=fit) for c, now, fit in zip(counters, seen, fits, strict=True)]
    got = await asyncio.gather(*(_hit(storage, counter) for counter in counters), return_exceptions=True)
    if all(one is True for one in got):
        return [_told(c, now, allowed=True, spend=c.cost) for c, now in zip(counters, seen, strict=True)]
    # Somebody was quicker, or the storage failed in the middle.
    await all_of(_give_back(storage, c) for c, one in zip(counters, got, strict=True) if one is True and c.cost)
    for one in got:
        if isinstance(one, BaseException):
            raise one
    seen = await all_of(_look(storage, counter) for counter in counters)
    return [_told(c, now, allowed=one is True) for c, now, one in zip(counters, seen, got, strict=True)]


async def _take_fixed(storage: Any, counter: Counter) -> Taken:
    """One limit with a fixed window: spend first and look at what it has come to."""
    spent, until = await all_of(
        [storage.incr(counter.name, counter.period, counter.cost), storage.get_expiry(counter.name)]
    )
    left = _left(until) or float(counter.period)
    if spent <= counter.amount:
        return Taken(True, counter.amount - spent, left, 0.0)
    before = spent - counter.cost
    # In a window that is about to end it would be given to the next one.
    if left > 1.0:
        await _give_back(storage, counter)
    return Taken(False, max(0, counter.amount - before), left, left)


async def _look(storage: Any, counter: Counter) -> _Seen:
    name, amount, period = counter.name, counter.amount, counter.period
    if counter.algorithm == "fixed_window":
        spent, until = await all_of([storage.get(name), storage.get_expiry(name)])
        left = _left(until) if spent else 0.0
        return _Seen(spent, left, left or float(period), left)
    if counter.algorithm == "sliding_window":
        return _slid(counter, *await storage.get_sliding_window(name, period))
    oldest, count = await storage.get_moving_window(name, amount, period)
    if not count:
        return _Seen(0, 0.0, float(period), 0.0)
    # Only the oldest entry is told: where one more than that has to go, it is when all have.
    over = count + counter.cost - amount
    first_out = max(0.0, oldest + period - time.time())
    return _Seen(count, float(period), float(period), first_out if over == 1 else float(period))


def _slid(counter: Counter, before: int, before_left: float, now: int, now_left: float) -> _Seen:
    """What two neighbouring windows come to: the one before counts by what of it still lies within one period, rounded
    down."""
    amount, period, cost = counter.amount, counter.period, counter.cost
    spent = floor(before * before_left / period) + now
    room = amount - cost - now
    if spent + cost <= amount or cost > amount:
        fits_in = 0.0
    elif room >= 0:
        fits_in = before_left - (room + 1) * period / before + _TICK
    else:
        # Not before the present window is the one before.
        fits_in = max(0.0, now_left - period) + period * (1.0 - (max(0, amount - cost) + 1) / now) + _TICK
    back_in = now_left if now > 0 else before_left if before > 0 else 0.0
    return _Seen(spent, back_in, now_left or 2.0 * period, fits_in)


async def _hit(storage: Any, counter: Counter) -> bool:
    """Spend, if it fits. Whether it did."""
    name, amount, period, cost = counter.name, counter.amount, counter.period, counter.cost
    if not cost:
        return True
    if counter.algorithm == "sliding_window":
        return bool(await storage.acquire_sliding_window_entry(name, amount, period, cost))
    if counter.algorithm == "sliding_log":
        return bool(await storage.acquire_entry(name, amount, period, cost))
    if await storage.incr(name, period, cost) <= amount:
        return True
    await _give_back(storage, counter)
    return False


async def charge(storage: Any, counter: Counter) -> None:
    name, amount, period, cost = counter.name, counter.amount, counter.period, counter.cost
    if cost < 0:
        await _give_back(storage, counter._replace(cost=-cost))
    elif counter.algorithm == "fixed_window":
        await storage.incr(name, period, cost)
    elif counter.algorithm == "sliding_window":
        await storage.acquire_sliding_window_entry(name, _BOUNDLESS, period, cost)
    else:
        # More than the whole amount at one moment is no more than that.
        await storage.acquire_entry(name, 2 * amount, period, min(cost, amount))


async def _give_back(storage: Any, counter: Counter) -> None:
    """Take back what was spent, at most all there is. Nothing for a `sliding_log`, whose entries cannot be taken out."""
    name, period, cost = counter.name, counter.period, counter.cost
    if counter.algorithm == "sliding_log":
        return
    # Storages that have no negative numbers have a way to take away, which stops at zero.
    take_away = getattr(storage, "decr", None) or getattr(getattr(storage, "bridge", None), "decr", None)
    if counter.algorithm == "fixed_window":
        if take_away is not None:
            await take_away(name, cost)
        elif (cost := min(cost, await storage.get(name))) > 0:
            await storage.incr(name, period, -cost)
    elif take_away is not None:
        _, present = storage.sliding_window_keys(name, period, time.time())
        await take_away(present, cost)
    elif (cost := min(cost, (await storage.get_sliding_window(name, period))[2])) > 0:
        await storage.acquire_sliding_window_entry(name, _BOUNDLESS, period, -cost)


async def reset(storage: Any, counter: Counter) -> None:
    if counter.algorithm == "sliding_window":
        await storage.clear_sliding_window(counter.name, counter.period)
    else:
        await storage.clear(counter.name)


async def all_of(works: Iterable[Any]) -> list[Any]:
    """What all of these bring, done at once. Raises what the first of them raised, when all have ended."""
    found = await asyncio.gather(*works, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


def _left(until: float) -> float:
    """Seconds until a moment of the clock that `limits` reads."""
    return max(0.0, until - time.time())
