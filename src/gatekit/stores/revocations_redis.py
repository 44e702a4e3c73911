"""Revocations shared by every instance through Redis or Valkey.

Each instance has the whole list in memory and follows the log of the server: it is told of news at once over a channel,
and asks twice a second all the same, so that no message that is lost matters. While the server is away, or does not
answer, the list stays in force as it was; it is on the disk too, for the next start.

A server that lost what it had is told by the instances: each, one after the other, fills in what it knows and the
server does not. So a restart without data revokes nothing less, and an instance that starts after it learns of it all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from hashlib import sha256
from math import inf
from re import fullmatch
from typing import Any, Final, Unpack

from gatekit.clients.redis import Listener, RedisServer
from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.errors import StoreUnavailable
from gatekit.mechanisms.denylist import PARTS, DenylistFull, Entry
from gatekit.mechanisms.revocation import (
    Revocation,
    RevocationRefused,
    What,
    Which,
    parted,
    read_revocation,
    restoration,
    revocation,
)
from gatekit.stores.kept import (
    EXPIRE_EVERY,
    LOAD_SECONDS,
    STALE_AFTER,
    Gate,
    Helm,
    KeptList,
    max_entries_of,
    wait,
)
from gatekit.stores.revocation_log import RevocationLog, batches
from gatekit.stores.snapshot import DiskCopy, Read

_log = logging.getLogger("gatekit.revocations")

ASK_EVERY: Final = 0.5
"""Seconds after which the server is asked although it said nothing."""
TURN: Final = 0.002
"""The same while the server is being told what it lacks: only to hear what it says meanwhile."""
SILENCE: Final = 1.5
"""Seconds after which a channel on which nothing was heard, not even an answer to a ping, is taken for broken."""
AGAIN_AFTER: Final = 0.25
"""Seconds after which a lost server is tried again."""
SAVE_EVERY: Final = 5.0
SAVE_SHARE: Final = 20.0
"""The list is saved no oftener than so many times as long as it takes."""
LEASE_SECONDS: Final = 10.0
COPY_SECONDS: Final = 10.0
"""For how long the copy on the disk is waited for: about as long as two million entries take."""

OTHER_DATA: Final = 3
"""How often in a row a server may have other data than before: then two take turns behind one name."""

_MARGIN: Final = 60_000_000
"""How far, in microseconds, the clocks of a server and its replacement may be apart."""
_OPTIONS: Final = ("max_entries", "prefix")


class RedisRevocations:
    """`redis://user:password@host:6379/0`, `rediss://` for TLS; `?prefix=` keeps several environments apart.

    What is revoked on one instance is in force on all of them within a second, mostly within milliseconds.
    """

    def __init__(self, url: str, ports: Ports) -> None:
        self._server = RedisServer(url, options=_OPTIONS, timeout=1.0)
        prefix = self._server.options.get("prefix", "gatekit")
        if not fullmatch(r"[A-Za-z0-9._:-]{1,64}", prefix):
            raise ValueError("a prefix is 1 to 64 letters, digits, dots, hyphens, underscores and colons")
        max_entries = max_entries_of(self._server.options)
        self._shared = RevocationLog(self._server, prefix, max_entries)
        self._kept = KeptList(ports, max_entries)
        self.revoked = self._kept.revoked
        self._ports = ports
        self._clock = ports.clock
        self._helm = Helm(ports.clock)
        self._gate = Gate()
        name = f"revocations-{sha256(f'{self._server.shown} {prefix}'.encode()).hexdigest()[:16]}"
        self._disk = None if ports.disk is None else DiskCopy(ports.disk, name)
        self._copy = Gate()
        self._copy_claimed = False
        self._read = Read()
        self._fill_from: int | None = None
        self._fills = ports.random.token(16).hex()
        self._contact: float | None = None
        self._connected = False
        self._trouble: str | None = None
        self._restored: list[tuple[int, Revocation]] = []
        self._refused = 0
        self._saved = 0
        self._save_after = SAVE_EVERY

    def __repr__(self) -> str:
        return f"<RedisRevocations {self._server.shown}>"

    # -- what users call

    async def revoke(self, **what: Unpack[What]) -> None:
        """Revoke what has this claim, on every instance: `await revoke(jti="…", until=exp)`. In force here when this
        returns, and stored. Raises RevocationRefused, DenylistFull, and StoreUnavailable where the server has not said
        that it has it: doing it again does no harm."""
        record = revocation(self._clock.wall(), **what)
        self._kept.need_room()
        await self._shared.add([record], self._ports.random.token(16).hex())
        self._kept.take(record)

    async def restore(self, **which: Unpack[Which]) -> bool:
        """Take back what these words revoked, on every instance; whether it was in force. Raises RevocationRefused,
        StoreUnavailable."""
        record = restoration(self._clock.wall(), **which)
        number = await self._shared.restore(record)
        if number:
            self._restored.append((number, record))
            self._kept.take(record)
        return number > 0

    async def aclose(self) -> None:
        """Close what is open in the running loop. For those who revoke without running the jobs."""
        await self._server.aclose()

    # -- what a policy calls

    def loaded(self) -> Awaitable[None] | None:
        """None once the list has been read from the server. Before that what waits for it: for the copy on the disk, and
        then for the server, `LOAD_SECONDS` at most. After that requests are served with what there is."""
        return None if self._gate.is_open else self._wait_for_list()

    def jobs(self) -> list[Job]:
        jobs = [
            Job(("revocations", self), self._follow, lambda: ASK_EVERY),
            Job(("revocations", self, "expire"), self._kept.expire, lambda: EXPIRE_EVERY, EXPIRE_EVERY),
        ]
        if self._disk is not None:
            jobs.append(Job(("revocations", self, "save"), self._save, lambda: self._save_after, SAVE_EVERY))
        return jobs

    def status(self) -> Mapping[str, Any]:
        age = None if self._contact is None else self._clock.monotonic() - self._contact
        return {
            "store": self._server.shown,
            **self._kept.status(),
            "seq": self._read.seq,
            "connected": self._connected,
            "age": age,
            "stale": age is None or age > STALE_AFTER,
            "trouble": self._trouble,
            "refused": self._refused,
            "filling": self._fill_from is not None,
        }

    # -- the beginning

    async def _wait_for_list(self) -> None:
        await self._load()
        arrived = await self._gate.wait(LOAD_SECONDS)
        if not arrived:
            _log.warning(
                "%s has not been read within %g s; requests are served with the %d revocations that are known",
                self._server.shown, LOAD_SECONDS, len(self._kept.list),
            )  # fmt: skip
            self._gate.open()

    async def _load(self) -> None:
        """Read the copy on the disk, once; whoever comes meanwhile waits for that, `COPY_SECONDS` at most."""
        if self._copy.is_open:
            return
        if self._copy_claimed:
            await self._copy.wait(COPY_SECONDS)
            return
        self._copy_claimed = True
        try:
            async with asyncio.timeout(COPY_SECONDS):
                await self._ports.once(("revocations", self, "copy"), self._load_copy)
        except TimeoutError:
            _log.warning("the copy of %s on the disk is not read yet after %g s", self._server.shown, COPY_SECONDS)

    async def _load_copy(self) -> None:
        try:
            if self._disk is not None:
                self._read = await self._disk.load(self._kept)
                self._saved = self._kept.changes
        finally:
            self._copy.open()

    # -- following the server

    async def _follow(self) -> None:
        """Follow the server, and come back to it whenever it was lost, until cancelled or until another loop does."""
        await self._load()
        holder = self._helm.take()
        if holder is None:
            return
        try:
            while self._helm.hold(holder):
                try:
                    await self._stay_with(holder)
                except StoreUnavailable as error:
                    self._lost(str(error))
                    await self._server.drop_idle()
                    # Up to twice as long, so that instances do not come back all at once.
                    await wait(AGAIN_AFTER * (1 + self._ports.random.random()))
        finally:
            self._connected = False
            self._helm.leave(holder)
            await self._server.aclose()

    async def _stay_with(self, holder: object) -> None:
        """Follow the server for as long as it answers. Raises StoreUnavailable."""
        async with self._server.listening(self._shared.channel) as listener:
            await self._meet()
            while self._helm.hold(holder):
                await self._pull(holder)
                busy = await self._fill(holder)
                await listener.ping()
                await self._wait_for_news(listener, TURN if busy else ASK_EVERY)

    async def _meet(self) -> None:
        """A connection has come about: is it the same server, with the data it had?"""
        run_id = await self._shared.run_id()
        if run_id != self._read.run_id:
            # It may have come back with older data than it had, or be another one that had not heard of the latest.
            self._read = self._read._replace(run_id=run_id, seq=max(0, self._read.seq - _MARGIN))
            self._owe()

    def _owe(self) -> None:
        """The server may lack something that we know."""
        self._fill_from = 0 if len(self._kept.list) else None

    async def _pull(self, holder: object) -> None:
        """Read what is new on the server, to the end. Raises StoreUnavailable."""
        changed = 0
        while True:
            page = await self._shared.read(self._read.seq, self._read.epoch)
            if not self._helm.hold(holder):
                return
            if page.epoch != self._read.epoch or page.last < self._read.seq:
                changed += 1
                if changed > OTHER_DATA:
                    raise StoreUnavailable(f"{self._server.shown} has other data whenever it is asked")
                self._begin_anew(page.epoch)
                if page.last:
                    continue
            await self._kept.take_all(self._records(page.texts))
            # What was read before it was taken back, and taken in after that, would be in force again.
            self._restored = [one for one in self._restored if one[0] > page.upto]
            for _, record in self._restored:
                self._kept.take(record)
            self._read = self._read._replace(seq=page.upto)
            if page.upto >= page.last:
                break
        self._in_touch()

    def _begin_anew(self, epoch: str) -> None:
        """The data are not those that we read so far."""
        if self._read.epoch:
            _log.warning("%s has lost data; what is known stays in force and is filled in", self._server.shown)
            self._owe()
        self._read = self._read._replace(epoch=epoch, seq=0)

    async def _fill(self, holder: object) -> bool:
        """Say to the server what we know and it does not, a part of the list at a time, one instance after the other.
        Whether the next part may follow at once. Raises StoreUnavailable."""
        if self._fill_from is None or not await self._shared.lease(self._fills, LEASE_SECONDS):
            return False
        now = self._clock.wall()
        found = [_without_text(entry, int(now)) for entry in self._kept.part(self._fill_from) if entry.until > now]
        for batch in batches(found):
            try:
                await self._shared.add(batch, self._ports.random.token(16).hex(), missing=True)
            except DenylistFull as full:
                _log.error("%s: an instance that starts now does not learn of everything that is revoked", full)
            if not self._helm.hold(holder):
                return False
        self._fill_from += 1
        if self._fill_from < PARTS:
            return True
        self._fill_from = None
        await self._shared.release(self._fills)
        return False

    async def _wait_for_news(self, listener: Listener, seconds: float) -> None:
        """Until something new was published, or so many seconds are over. Raises StoreUnavailable."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            news = await listener.news(left)
            # What is no number is nobody's message; asking costs little.
            if news is not None and not (news.isdigit() and int(news[:20]) <= self._read.seq):
                return
        if loop.time() - listener.heard > SILENCE:
            raise StoreUnavailable(f"{self._server.shown} says nothing on its channel any more")

    def _in_touch(self) -> None:
        self._contact = self._clock.monotonic()
        self._connected = True
        self._gate.open()
        if self._trouble is not None:
            self._trouble = None
            _log.warning("%s is back: %d revocations in force", self._server.shown, len(self._kept.list))

    def _lost(self, trouble: str) -> None:
        if self._trouble is None:
            _log.warning("%s; %d revocations stay in force", trouble, len(self._kept.list))
        self._trouble = trouble
        self._connected = False

    def _records(self, texts: Iterable[bytes]) -> Iterator[Revocation]:
        for text in texts:
            try:
                yield read_revocation(text)
            except RevocationRefused:
                if not self._refused:
                    _log.warning("%s has entries that are no revocations; they are passed over", self._server.shown)
                self._refused += 1

    # -- the copy on the disk

    async def _save(self) -> None:
        """Save the list, if it is different from what is on the disk."""
        if self._disk is None or not self._copy.is_open or self._saved == self._kept.changes:
            return
        begun, changes = self._clock.monotonic(), self._kept.changes
        await self._disk.save(self._kept, self._read)
        self._saved = changes
        self._save_after = max(SAVE_EVERY, SAVE_SHARE * (self._clock.monotonic() - begun))


def _without_text(entry: Entry, now: int) -> Revocation:
    """The revocation that an entry was, as far as it is known."""
    kind, scoped, digest = parted(entry.key)
    return Revocation(
        kind,
        until=None if entry.until == inf else int(entry.until),
        before=None if entry.before == inf else int(entry.before),
        at=now,
        digest=f"{'@' if scoped else ''}{digest}",
    )
