"""Counters in this process: a token bucket for each key, bounded in number, nothing forgotten that matters.

They never suspend, so that a policy that uses them runs under WSGI without an event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Final

from gatekit.core.ports import Ask, Clock, Lock, Taken
from gatekit.mechanisms.cache import BoundedCache
from gatekit.mechanisms.window import TokenBucket, take

MAX_KEYS: Final = 100_000


class _Bucket(TokenBucket):
    """A bucket that knows until when its key is limited."""

    __slots__ = ("limited_until",)

    def __init__(self, amount: int, period: float) -> None:
        super().__init__(amount, period)
        self.limited_until = 0.0


def _limited(bucket: _Bucket, now: float) -> bool:
    return now < bucket.limited_until


class LocalCounters:
    """`Counters` in memory, for at most `max_keys` keys and limits.

    Where room is needed, the key that was asked about least recently goes; one that is out of quota goes only when all
    are. A bucket that has filled up again is not kept: it is as good as a new one.
    """

    __slots__ = ("_buckets", "_clock", "_guard")

    def __init__(self, clock: Clock, lock: Lock = nullcontext, *, max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._guard = lock()
        self._buckets: BoundedCache[tuple[str, int, float], _Bucket] = BoundedCache(max_keys, protects=_limited)

    async def take(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        """As in `Counters`; the asks of one call are about different keys or different limits."""
        return self.take_now(asks)

    def take_now(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        """`take`, which has nothing to wait for."""
        if len(asks) == 1:
            return (self._take_one(*asks[0]),)
        buckets = self._buckets
        # The time is read inside, so that it does not go back between threads.
        with self._guard:
            now = self._clock.monotonic()
            found = [
                buckets.get((key, amount, period), now) or _Bucket(amount, period) for key, amount, period, _ in asks
            ]
            answers = take(found, [ask.cost for ask in asks], now)
            charged = all(answer.allowed for answer in answers)
            for (key, amount, period, cost), bucket, answer in zip(asks, found, answers, strict=True):
                if charged:
                    wait = bucket.look(cost, now).retry_after if answer.remaining < cost else 0.0
                elif answer.allowed:
                    continue
                else:
                    wait = answer.retry_after
                bucket.limited_until = now + wait
                buckets.put((key, amount, period), bucket, now, answer.reset_after)
        return answers

    def _take_one(self, key: str, amount: int, period: float, cost: int) -> Taken:
        buckets, name = self._buckets, (key, amount, period)
        with self._guard:
            now = self._clock.monotonic()
            bucket = buckets.get(name, now) or _Bucket(amount, period)
            answer = bucket.take(cost, now)
            if not answer.allowed:
                bucket.limited_until = now + answer.retry_after
            elif answer.remaining < cost:
                bucket.limited_until = now + bucket.look(cost, now).retry_after
            else:
                bucket.limited_until = now
            buckets.put(name, bucket, now, answer.reset_after)
        return answer

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._buckets)
