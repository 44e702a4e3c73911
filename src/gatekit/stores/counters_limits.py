"""Counters in any storage of the package `limits`: `limits+memcached://host:11211`, `limits+redis://host:6379/0`,
`limits+mongodb://host:27017`.

For those who have such a server already. Redis and Valkey are better served by `redis://`: one script decides there, in one
round trip, by every algorithm. What a storage of `limits` cannot do is said here, and refused where it would matter:

- It has `fixed_window` (which begins with its first request), `sliding_window`, and all but memcached have `sliding_log`.
- Several limits of one request are looked at first and then spent one by one. Somebody else may come between: who finds
  the second limit used up meanwhile gives the first one back. So no more is let through than each limit allows, but two
  may refuse each other what one of them could have had.
- A `sliding_log` gives nothing back, keeps one entry for each request, and goes by the clock of whoever asks.
- memcached forgets counters where it needs their room, counts time in whole seconds, and takes no window over 30 days
  (15 for a `sliding_window`). Redis tells the end of a fixed window in whole seconds, half of one early at times.

Round trips of a decision, however many limits there are: one limit alone with a fixed window takes 1 where it allows (2
commands at once) and 2 where it refuses; everything else 2 where it allows and 1 where it refuses. On memcached the first
request of a fixed window takes 3, and a sliding window 3 where it allows and 4 the first time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from re import compile as pattern
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from gatekit.core.counters import Ask, Limit, Taken
from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.errors import StoreUnavailable
from gatekit.stores.counters_limits_steps import Counter, all_of, charge, reset, take

T = TypeVar("T")

TIMEOUT: Final = 0.025
"""Seconds a call may take where the URL says nothing else."""
CONNECTIONS: Final = 16
"""To a Redis server, from each loop. Who finds them all in use waits, within the time that a call may take."""
MEMCACHED_LONGEST: Final = 30 * 86_400
"""Seconds above which memcached takes an expiry for a date, one long ago: the counter would be gone at once."""

_CLOSING: Final = 1.0
"""Seconds that closing may take."""

_WORD: Final = pattern(r"[A-Za-z0-9._:-]{1,64}")
_SECONDS: Final = pattern(r"[0-9](\.[0-9]{1,3})?")
_DRIVERS: Final = {"memcached": "memcachio", "mongodb": "motor", "redis": "redis"}
"""Storage → the package that it needs and that `limits` does not bring."""
_FRAGILE: Final = ("memcached",)
"""Storages whose drivers lose a connection to their own accounts where they are interrupted: it is not used again then."""


class LimitsCounters:
    """`Counters` in a storage of `limits`.

    The URL is that of `limits` with `limits+` before it and without its `async+`. `?timeout=` bounds every call (0.025 s;
    0.005 to 5), `?prefix=` is the first word of every key (`gatekit`); other options go to the storage. Raises ValueError
    on a URL that names none, ImportError where the driver is not installed. Opening does no I/O.
    """

    __slots__ = (
        "_failures",
        "_kind",
        "_lines",
        "_once",
        "_options",
        "_prefix",
        "_storage",
        "_timeout",
        "_uri",
        "_ways",
        "shown",
    )

    def __init__(self, url: str, ports: Ports) -> None:
        self._kind, self._storage = _storage_of(url)
        uri, options, self.shown = _parted(url, self._kind)
        self._timeout = _timeout(options.get("timeout"))
        self._prefix = options.get("prefix", "gatekit")
        if not _WORD.fullmatch(self._prefix):
            raise ValueError("a prefix is 1 to 64 letters, digits, dots, hyphens, underscores and colons")
        self._uri = f"async+{uri}"
        self._options = _options_of(self._kind, self._timeout)
        self._ways = _ways(self._storage)
        self._once = ports.once
        self._lines: dict[asyncio.AbstractEventLoop, _Line] = {}
        self._failures = 0
        self._check_options()

    def __repr__(self) -> str:
        return f"<LimitsCounters {self.shown}>"

    def check(self, limit: Limit) -> None:
        """Raises ValueError where this storage cannot count that way. Asks nothing of the server."""
        known = self._ways
        if limit.calendar is not None:
            raise ValueError(f"{self._kind} has no calendar windows: keep such a limit in redis://")
        if limit.algorithm not in known:
            raise ValueError(
                f"{self._kind} cannot count by {limit.algorithm}: choose {' or '.join(sorted(known))}, or keep the "
                "counters in redis://"
            )
        if limit.period < 1 or limit.period != int(limit.period):
            raise ValueError(f"{self._kind} counts in whole seconds: {limit.period:g} s is no period for it")
        kept = limit.period * (2 if limit.algorithm == "sliding_window" else 1)
        if self._kind == "memcached" and kept > MEMCACHED_LONGEST:
            raise ValueError(f"memcached keeps nothing over 30 days: {limit.period:g} s of {limit.algorithm} are more")

    async def take(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        """One answer for each ask; nothing is spent where one does not fit. Raises StoreUnavailable, and ValueError on a
        limit that `check` refuses. What was spent before the time was over stays spent."""
        for ask in asks:
            self.check(ask.limit)
        return await self._run(lambda storage: take(storage, [self._counter(ask) for ask in asks]))

    async def charge(self, asks: Sequence[Ask]) -> None:
        """Spend, past the limit too, or give back. A `sliding_log` gives nothing back, and of what is spent past its limit
        it keeps as much again as the limit. A `sliding_window` gives back what was spent in its present window."""
        for ask in asks:
            self.check(ask.limit)
        await self._run(lambda storage: all_of(charge(storage, self._counter(ask)) for ask in asks if ask.cost))

    async def reset(self, asks: Sequence[Ask]) -> None:
        """Forget these counters."""
        for ask in asks:
            self.check(ask.limit)
        await self._run(lambda storage: all_of(reset(storage, self._counter(ask)) for ask in asks))

    async def aclose(self) -> None:
        """Close what is open in the running loop."""
        line = self._lines.pop(asyncio.get_running_loop(), None)
        if line is not None:
            await line.retire(self._timeout + _CLOSING)

    def jobs(self) -> list[Job]:
        """One, which has nothing to do but to close the connections at the end."""
        return [Job(("counters", self), self._stay, lambda: 60.0)]

    def status(self) -> Mapping[str, Any]:
        """Plain figures for the operator."""
        return {"store": self.shown, "failures": self._failures}

    async def _stay(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self.aclose()

    def _counter(self, ask: Ask) -> Counter:
        # By its digest: whatever is in a key, it is short, and no two run into each other.
        digest = blake2b(ask.key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        limit = ask.limit
        # What one algorithm or period has left there, another could not read; another amount can.
        name = f"{self._prefix}:{limit.algorithm}:{limit.period:.0f}:{digest}"
        return Counter(name, limit.algorithm, limit.amount, int(limit.period), ask.cost)

    async def _run(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """What `work` makes of the storage of a loop. It is done by a task of its own, on the process's loop where the
        caller has none: drivers lose connections where a caller who goes away interrupts them."""
        return await self._once(("counters", self, object()), lambda: self._bounded(work))

    async def _bounded(self, work: Callable[[Any], Awaitable[T]]) -> T:
        line = self._line()
        line.users += 1
        try:
            async with asyncio.timeout(self._timeout):
                return await work(line.storage)
        except TimeoutError:
            self._failures += 1
            if self._kind in _FRAGILE:
                self._forget(line)
            raise StoreUnavailable(f"{self.shown} did not answer within {self._timeout:g} s") from None
        except Exception as error:
            self._failures += 1
            cause = getattr(error, "storage_error", error)
            raise StoreUnavailable(f"{self.shown} failed: {type(cause).__name__}") from None
        finally:
            await line.leave()

    def _line(self) -> _Line:
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            for closed in [one for one in self._lines if one.is_closed()]:
                self._lines.pop(closed, None)
            line = self._lines[loop] = _Line(self._storage(self._uri, wrap_exceptions=True, **self._made()))
        return line

    def _made(self) -> dict[str, Any]:
        """What the constructor of the storage is given, for one loop."""
        if self._kind != "redis":
            return self._options
        from redis.asyncio import BlockingConnectionPool
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        pool = BlockingConnectionPool.from_url(
            self._uri.removeprefix("async+"),
            max_connections=CONNECTIONS,
            timeout=None,
            # Bounded as a whole, and not tried again.
            retry=Retry(NoBackoff(), 0, supported_errors=()),
            protocol=2,
        )
        return {**self._options, "connection_pool": pool}

    def _check_options(self) -> None:
        """Raises ValueError where redis-py would refuse its options, which it does when it connects."""
        if self._kind == "redis":
            try:
                self._made()["connection_pool"].make_connection()
            except (TypeError, ValueError):
                raise ValueError(
                    "an option behind the ? of this URL is neither timeout, prefix nor redis-py's"
                ) from None

    def _forget(self, line: _Line) -> None:
        """Whoever comes next begins with a new one; whoever uses this one goes on."""
        line.over = True
        loop = asyncio.get_running_loop()
        if self._lines.get(loop) is line:
            del self._lines[loop]


class _Line:
    """A storage of one loop, and how many calls use it. Whoever is the last to use one that is over closes it."""

    __slots__ = ("_ended", "over", "storage", "users")

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self.users = 0
        self.over = False
        self._ended = asyncio.Event()

    async def leave(self) -> None:
        """Somebody does not use it any more."""
        self.users -= 1
        if self.over and not self.users:
            await self.close()

    async def retire(self, patience: float) -> None:
        """Close it, once nobody uses it: so many seconds later, at most."""
        self.over = True
        if self.users:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._ended.wait()
        else:
            await self.close()

    async def close(self) -> None:
        """`limits` closes nothing itself: each driver in its own way."""
        with suppress(Exception):
            async with asyncio.timeout(_CLOSING):
                bridge = getattr(self.storage, "bridge", None)
                if bridge is None:
                    # MongoDB; what is in memory has nothing to close.
                    getattr(self.storage.storage, "close", lambda: None)()
                elif hasattr(bridge, "get_storage"):
                    (await bridge.get_storage()).connection_pool.close()
                else:
                    await bridge.storage.aclose()
                    await bridge.storage.connection_pool.disconnect()
        self._ended.set()


def _ways(storage: type) -> set[str]:
    """The algorithms that a storage has."""
    from limits.aio.storage import MovingWindowSupport, SlidingWindowCounterSupport

    found = {"fixed_window"}
    if issubclass(storage, SlidingWindowCounterSupport):
        found.add("sliding_window")
    if issubclass(storage, MovingWindowSupport):
        found.add("sliding_log")
    return found


def _storage_of(url: str) -> tuple[str, Any]:
    """The kind of storage that a URL names, and its class. Raises ValueError, ImportError."""
    import limits.aio.storage  # noqa: F401 - fills the table
    from limits.storage import SCHEMES  # type: ignore[attr-defined]

    scheme = url.partition(":")[0].lower()
    kind = scheme.removeprefix("limits+")
    if kind == scheme or f"async+{kind}" not in SCHEMES:
        raise ValueError("a storage of `limits` is named by limits+memcached:, limits+mongodb: or limits+redis:")
    package = _DRIVERS.get(kind)
    try:
        if package is not None:
            __import__(package)
    except ImportError:
        raise ImportError(f"counters in {kind} need its driver: install {package}") from None
    return kind, SCHEMES[f"async+{kind}"]


def _parted(url: str, kind: str) -> tuple[str, dict[str, str], str]:
    """The URL without what is ours, our options, and what may be shown. Raises ValueError without repeating any of it."""
    wrong = ValueError(f"the URL of this storage is limits+{kind}://host:port, more hosts parted by commas")
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise wrong from None
    hosts = parts.netloc.rpartition("@")[2]
    if (not hosts and kind != "memory") or parts.fragment:
        raise wrong
    if kind == "memcached":
        _check_hosts(hosts, wrong)
    ours = [(name, value) for name, value in query if name in ("timeout", "prefix")]
    theirs = [pair for pair in query if pair not in ours]
    if len(dict(ours)) < len(ours) or (theirs and kind == "memcached"):
        raise ValueError("behind the ? of this URL may stand, once each: timeout, prefix")
    uri = parts._replace(scheme=kind, query=urlencode(theirs)).geturl()
    return uri, dict(ours), f"limits+{kind}://{hosts}"


def _check_hosts(hosts: str, wrong: ValueError) -> None:
    for host in hosts.split(","):
        try:
            one = urlsplit(f"//{host}")
            if not one.hostname or one.port is None:
                raise wrong
        except ValueError:
            raise wrong from None


def _options_of(kind: str, timeout: float) -> dict[str, Any]:
    """What a driver is told, so that it ends by itself what nobody waits for any more."""
    if kind == "memcached":
        return {"connect_timeout": timeout, "read_timeout": timeout, "blocking_timeout": timeout}
    if kind == "mongodb":
        milliseconds = max(1, int(timeout * 1000))
        return {"timeoutMS": milliseconds, "serverSelectionTimeoutMS": milliseconds, "connectTimeoutMS": milliseconds}
    if kind == "redis":
        return {"implementation": "redispy", "key_prefix": "limits"}
    return {}


def _timeout(text: str | None) -> float:
    if text is None:
        return TIMEOUT
    seconds = float(text) if _SECONDS.fullmatch(text) else 0.0
    if not 0.005 <= seconds <= 5.0:
        raise ValueError("timeout is a number of seconds from 0.005 to 5")
    return seconds
