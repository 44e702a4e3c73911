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
    are.
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
            return (self.take_one(*asks[0]),)
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
                bucket.limited_until = now + wait if wait else 0.0
                buckets.put((key, amount, period), bucket, now)
        return answers

    def take_one(self, key: str, amount: int, period: float, cost: int) -> Taken:
        """The answer to one ask."""
        buckets, name = self._buckets, (key, amount, period)
        with self._guard:
            now = self._clock.monotonic()
            bucket = buckets.get(name, now)
            if bucket is None:
                bucket = _Bucket(amount, period)
            elif not bucket.limited_until:
                # The usual case: it was not limited and is not now, so it stays where looking it up has put it.
                answer = bucket.take(cost, now)
                if answer.allowed and answer.remaining >= cost:
                    return answer
                return self._put(name, bucket, answer, cost, now)
            return self._put(name, bucket, bucket.take(cost, now), cost, now)

    def _put(self, name: tuple[str, int, float], bucket: _Bucket, answer: Taken, cost: int, now: float) -> Taken:
        if not answer.allowed:
            bucket.limited_until = now + answer.retry_after
        elif answer.remaining < cost:
            bucket.limited_until = now + bucket.look(cost, now).retry_after
        else:
            bucket.limited_until = 0.0
        self._buckets.put(name, bucket, now)
        return answer

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._buckets)
