"""Who has which plan, in Redis or Valkey: `redis://user:password@host:6379/0`, `rediss://` for TLS.

The plans are one hash, `gatekit:plans`, name → plan: the name of a plan, or limits as text. Beside it are a version and
the names that were changed last, so that every instance learns of a change within a second by asking for one number, and
reads again only what was changed. A service that administers plans writes through here:

    plans = RedisPlans("redis://host:6379/0", ports)
    await plans.set("acme", "pro")
    await plans.remove("acme")

A hash written by other means (`HSET gatekit:plans acme pro`) is read as well: as a whole, every `RELOAD_EVERY` seconds.

Each instance has the whole hash in memory and answers from there. While the server is away the plans stay as they were,
and `status()` says for how long; they are on the disk too, where there is one, for a start without the server. A server
that has neither hash nor version has lost its data: then too they stay. To take the last plan away, use `remove`.

`?prefix=` puts another word in place of `gatekit`, `?timeout=` bounds a question (1 s; 0.1 to 5).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from math import inf
from re import compile as pattern
from typing import Any, Final

from gatekit.clients.redis import RedisServer, Script
from gatekit.core.policy import Job
from gatekit.core.ports import Disk, Ports
from gatekit.errors import StoreUnavailable
from gatekit.stores.kept import Gate, Helm, turn
from gatekit.stores.plans import MAX_BYTES, MAX_ENTRIES, PIECE, KeptPlans, unpacked, wrong_with

_log = logging.getLogger("gatekit.stores")

EVERY: Final = 1.0
"""Seconds between two questions for the version."""
RELOAD_EVERY: Final = 60.0
"""Seconds after which everything is read again, for what was changed without a word; or so many times as long as that
takes, where that is more."""
RELOAD_SHARE: Final = 20.0
SAVE_EVERY: Final = 5.0
"""Seconds between two copies to the disk, at least."""
LOAD_SECONDS: Final = 2.0
"""For how long the first request waits for the plans, at most."""
STALE_AFTER: Final = 5.0
"""Plans that were not compared with the server for so many seconds are told to be stale."""
REMEMBERED: Final = 10_000
"""How many changed names the server keeps. An instance that has missed more reads everything."""

_WORD: Final = pattern(r"[A-Za-z0-9._:-]{1,64}")
_FORMAT: Final = 1

# A version begins with the time, so that a server which has lost its data does not come to the same number again.
_CHANGE: Final = Script("""
local plans, version, changes = KEYS[1], KEYS[2], KEYS[3]
local name, plan, most, remembered = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('EXISTS', version) == 0 then
  local time = redis.call('TIME')
  redis.call('SET', version, time[1] .. string.format('%06d', tonumber(time[2])))
end
local known = redis.call('HEXISTS', plans, name)
if plan == '' then
  redis.call('HDEL', plans, name)
elseif known == 0 and redis.call('HLEN', plans) >= most then
  return -1
else
  redis.call('HSET', plans, name, plan)
end
redis.call('ZADD', changes, redis.call('INCR', version), name)
redis.call('ZREMRANGEBYRANK', changes, 0, -1 - remembered)
return known
""")


class RedisPlans:
    """The plans on one server."""

    __slots__ = (
        "_changes", "_clock", "_compared", "_copy_read", "_disk", "_due", "_gate", "_helm", "_kept", "_keys", "_name",
        "_once", "_random", "_refused", "_saved", "_server", "_trouble", "_version", "_whole", "find",
    )  # fmt: skip

    def __init__(self, url: str, ports: Ports) -> None:
        self._server = RedisServer(url, options=("prefix",), timeout=1.0)
        word = self._server.options.get("prefix", "gatekit")
        if not _WORD.fullmatch(word):
            raise ValueError("a prefix is 1 to 64 letters, digits, dots, hyphens, underscores and colons")
        # In one slot of a cluster.
        self._keys = (f"{word}:plans", f"{{{word}:plans}}:version", f"{{{word}:plans}}:changes")
        self._kept = KeptPlans()
        self.find = self._kept.find
        self._clock = ports.clock
        self._random = ports.random
        self._once = ports.once
        self._disk: Disk | None = ports.disk
        self._name = f"plans-{sha256(f'{self._server.shown} {word}'.encode()).hexdigest()[:16]}"
        self._helm = Helm(ports.clock)
        self._gate = Gate()
        self._copy_read = False
        self._version: int | None = None
        self._whole = False
        """Whether what is in memory is all that the server has."""
        self._due = -inf
        self._compared = -inf
        self._trouble: str | None = None
        self._refused = 0
        # What is in memory, and what is on the disk: different numbers, different plans.
        self._changes = 0
        self._saved = 0

    def __repr__(self) -> str:
        return f"<RedisPlans {self._server.shown}>"

    # -- for a service that administers plans

    async def set(self, name: str, plan: str) -> None:
        """Have this plan, or these limits, under that name, on every instance within a second. Raises ValueError on what
        is no entry or finds no room, and StoreUnavailable where the server has not said that it has it: doing it again
        does no harm."""
        wrong = wrong_with(name, plan)
        if wrong is not None:
            raise ValueError(wrong)
        if await self._change(name, plan) < 0:
            raise ValueError(f"there is room for {MAX_ENTRIES} plans: remove some first")

    async def remove(self, name: str) -> bool:
        """Have none under that name; whether there was one. Raises StoreUnavailable."""
        return await self._change(name, "") > 0

    async def _change(self, name: str, plan: str) -> int:
        found = int(await self._server.run(_CHANGE, self._keys, [name, plan, MAX_ENTRIES, REMEMBERED]))
        if found >= 0:
            self._kept.change(name, plan or None)
            self._changes += 1
        return found

    async def aclose(self) -> None:
        """Close what is open in the running loop. For those who administer without running the jobs."""
        await self._server.aclose()

    # -- what a policy calls

    def loaded(self) -> Awaitable[None] | None:
        """None once the plans have been read. Before that what waits for it: for the copy on the disk, then for the server,
        `LOAD_SECONDS` at most; after that there is what there is."""
        return None if self._gate.is_open else self._once(("plans", self, "load"), self._load)

    def jobs(self) -> list[Job]:
        jobs = [
            Job(("plans", self), self._follow, lambda: EVERY),
            Job(("plans", self, "close"), self._stay, lambda: 60.0),
        ]
        if self._disk is not None:
            jobs.append(Job(("plans", self, "save"), self._save, lambda: SAVE_EVERY, SAVE_EVERY))
        return jobs

    def status(self) -> Mapping[str, Any]:
        """Plain figures for the operator. `age`: seconds since the plans were found to be those of the server."""
        age = None if self._compared == -inf else round(self._clock.monotonic() - self._compared, 3)
        return {
            "store": self._server.shown,
            "entries": len(self._kept),
            "age": age,
            "stale": age is None or age > STALE_AFTER,
            "trouble": self._trouble,
            "refused": self._refused,
        }

    # -- following the server

    async def _load(self) -> None:
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                await self._load_copy()
                if not await self.refresh():
                    await self._gate.wait(LOAD_SECONDS)
        except TimeoutError:
            _log.warning(
                "%s has not been read within %g s; %d plans are known",
                self._server.shown,
                LOAD_SECONDS,
                len(self._kept),
            )
        self._gate.open()

    async def _follow(self) -> None:
        """Look at the server every second, until cancelled or until another loop does."""
        await self._load_copy()
        await self.refresh()

    async def refresh(self) -> bool:
        """Read what is new; False where somebody else is about to. Raises nothing: a server that is away is told once."""
        holder = self._helm.take()
        if holder is None:
            return False
        try:
            await self._look(holder)
        except StoreUnavailable as error:
            self._troubled(str(error))
            await self._server.drop_idle()
        finally:
            self._helm.leave(holder)
        self._gate.open()
        return True

    async def _look(self, holder: object) -> None:
        for _ in self._kept.tidy():
            await turn()
        version = _number(await self._server.ask("GET", self._keys[1]))
        begun = self._clock.monotonic()
        missed = _missed(self._version, version)
        if begun >= self._due or not 0 <= missed <= REMEMBERED:
            self._whole = await self._read_all(holder, version)
            took = self._clock.monotonic() - begun
            # Not all instances at the same time.
            self._due = begun + max(RELOAD_EVERY, RELOAD_SHARE * took) * (0.75 + 0.5 * self._random.random())
        elif missed and self._whole:
            await self._read_changes(int(missed))
        self._version = version
        if self._whole:
            self._compared = begun
            self._troubled(None)

    async def _read_changes(self, missed: int) -> None:
        known = self._version or 0
        names = await self._server.ask("ZRANGEBYSCORE", self._keys[2], f"({known}", str(known + missed))
        for at in range(0, len(names), PIECE):
            some = names[at : at + PIECE]
            for name, plan in zip(some, await self._server.ask("HMGET", self._keys[0], *some), strict=True):
                self._put(self._kept.change, name, plan)
        self._changes += 1

    async def _read_all(self, holder: object, version: int | None) -> bool:
        """Read the whole hash; whether that is what we have now. Raises StoreUnavailable."""
        count = int(await self._server.ask("HLEN", self._keys[0]))
        if count > MAX_ENTRIES:
            self._troubled(f"{self._server.shown} has {count} plans, and there is room for {MAX_ENTRIES}")
            return False
        if not count and version is None and len(self._kept):
            self._troubled(f"{self._server.shown} has lost its plans")
            return False
        plans: dict[str, str] = {}
        same: dict[str, str] = {}
        size, refused, cursor = 0, self._refused, -1
        changed = False

        def put(name: str, plan: str | None) -> None:
            nonlocal changed
            plan = same.setdefault(plan or "", plan or "")
            changed = changed or self.find(name) != plan
            plans[name] = plan

        self._refused = 0
        while cursor:
            cursor, found = await self._server.ask("HSCAN", self._keys[0], max(0, cursor), "COUNT", PIECE)
            for name, plan in found.items():
                size += len(name) + len(plan)
                self._put(put, name, plan)
            if size > MAX_BYTES or len(plans) > MAX_ENTRIES:
                self._troubled(f"{self._server.shown} has more plans than {MAX_BYTES} bytes or {MAX_ENTRIES} names")
                return False
            self._helm.hold(holder)
        if self._refused and not refused:
            _log.warning("%s has %d entries that are no plans; they are passed over", self._server.shown, self._refused)
        if changed or len(plans) != len(self._kept):
            self._changes += 1
        self._kept.replace(plans)
        return True

    def _put(self, put: Callable[[str, str | None], None], name: bytes, plan: bytes | None) -> None:
        try:
            texts = name.decode(), None if plan is None else plan.decode()
        except UnicodeDecodeError:
            self._refused += 1
            return
        if plan is not None and wrong_with(*texts) is not None:
            self._refused += 1
            return
        put(*texts)

    def _troubled(self, trouble: str | None) -> None:
        if trouble == self._trouble:
            return
        before, self._trouble = self._trouble, trouble
        if trouble is None:
            _log.warning("%s is back: %d plans", self._server.shown, len(self._kept))
        elif before is None:
            _log.warning("%s; %d plans stay as they are known", trouble, len(self._kept))

    async def _stay(self) -> None:
        """Nothing, but close the connections of this loop at the end."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self._server.aclose()

    # -- the copy on the disk

    async def _load_copy(self) -> None:
        """Read the copy, if nothing is known yet."""
        if self._copy_read:
            return
        self._copy_read = True
        data = None if self._disk is None else await self._disk.load(self._name)
        if data is None:
            return
        try:
            head, _, rest = data.partition(b"\n")
            if json.loads(head) != {"format": _FORMAT}:
                raise ValueError("these are plans of another version")
            plans: dict[str, str] = {}
            for piece in unpacked(iter(rest.splitlines())):
                plans.update(piece)
                await turn()
        except (ValueError, RecursionError):
            _log.warning("the copy of the plans of %s on the disk cannot be read", self._server.shown)
            return
        if not len(self._kept):
            self._kept.replace(plans)

    async def _save(self) -> None:
        """Save the plans, if they are not on the disk already."""
        changes = self._changes
        if self._disk is None or changes == self._saved:
            return
        packed = [json.dumps({"format": _FORMAT}).encode("ascii")]
        for piece in self._kept.pieces():
            packed.append(piece)
            await turn()
        await self._disk.save(self._name, b"\n".join(packed))
        self._saved = changes


def _missed(known: int | None, version: int | None) -> float:
    """How many changes there were between two versions. Infinity where that cannot be told, less than zero where the
    server has older data than it had."""
    if known is None or version is None:
        return 0 if known is version else inf
    return version - known


def _number(text: bytes | None) -> int | None:
    """The version that this is. None also for what somebody else put there: then everything is read every time."""
    return int(text) if text is not None and text.isdigit() and len(text) < 19 else None
