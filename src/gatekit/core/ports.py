"""Ports: how a policy reaches what is outside it. Time, randomness, shared state and I/O come through here only.

A port that does I/O has one implementation, an asynchronous one; one that works in memory never suspends. Under WSGI
the driver's `blocking` wrapper makes the first kind non-suspending too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol, TypeVar

from gatekit.core.counters import Counters, Plans
from gatekit.core.events import Events
from gatekit.errors import MissingPort, MissingSecret

T = TypeVar("T")


class Clock(Protocol):
    """Two readings: `monotonic` for durations and deadlines, `wall` (seconds since the Unix epoch) for dates."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...


class Random(Protocol):
    """Randomness: `random` in [0, 1) for spreading load, `token` for what nobody may guess."""

    def random(self) -> float: ...

    def token(self, size: int) -> bytes: ...


class Signal(Protocol):
    """What one exchange waits for and another brings about. Good for one wait."""

    def fire(self) -> bool:
        """Let whoever waits go on, from any thread or loop. False where nobody will: the time was over, it was fired
        before, or it was given up."""
        ...

    async def wait(self, seconds: float) -> bool:
        """True once it was fired, False when so many seconds have passed first. A wait that is cancelled gives it up."""
        ...

    @property
    def fired(self) -> bool:
        """Whether `fire` said True: also where the wait was cancelled before it could return."""
        ...


Signals = Callable[[], Signal]
"""Makes a signal, for the running loop or, where there is none, for this thread, which then stands still while it waits."""


class Fetched(NamedTuple):
    """What a `Fetch` brought: status, headers in lower case (last value of a name), and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Reach(NamedTuple):
    """Where a `Fetch` may go that it would not go by itself, on an operator's word.

    `networks` are CIDR networks that may be connected to although they are not public; any port then, and http as well
    as https. `ca` is the path of a PEM file of authorities to be believed in place of the system's.
    """

    networks: tuple[str, ...] = ()
    ca: str | None = None


PUBLIC = Reach()
"""Public addresses over https, with certificates that the system's authorities signed."""


class Fetch(Protocol):
    """Small HTTP calls on the gateway's own behalf: key sets, introspection, discovery. Never for proxied traffic."""

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        timeout: float = 5.0,
        reach: Reach = PUBLIC,
    ) -> Fetched:
        """Raises StoreUnavailable when no answer came within `timeout` seconds."""
        ...


class Once(Protocol):
    """Single flight: work that several wait for is done once, and is nobody's request.

    A caller that gives up takes nothing from the others: the work goes on to its end. One that runs work of its own may
    have `aclose()`, which ends what runs on the loop it is awaited in.
    """

    async def __call__(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, or of the run that is under way for that key; raises what it raises."""
        ...


class Disk(Protocol):
    """What outlives the process: small blobs by name, in a directory that belongs to this gateway."""

    async def load(self, name: str) -> bytes | None:
        """What was saved under that name last, None where there is nothing that is whole. Never raises for the disk."""
        ...

    async def save(self, name: str, data: bytes) -> None:
        """Keep `data` under that name in place of what was there: all of it or nothing. Never raises for the disk."""
        ...


class Revocations(Protocol):
    """Exact list of what is no longer valid, asked after every cache. It answers from memory."""

    def revoked(self, claims: Mapping[str, Any]) -> str | None:
        """Why a credential with these claims is revoked, or None. What is looked at: `jti`, `sub`, `sid`, `client_id`,
        `tenant`, `iss` and `iat` (seconds since the Unix epoch)."""
        ...


class ApiKeyRecords(Protocol):
    """API keys that are kept outside of the configuration."""

    async def find(self, prefix: str) -> Mapping[str, Any] | None:
        """The record of the key that begins with `prefix`, None where there is none. Raises StoreUnavailable."""
        ...


class Stores(Protocol):
    """What several instances share, opened by URL: `redis://host:6379/0`, `file:///var/lib/…`, `memory:`.

    What is opened may have `jobs()`, which its user passes on as its own, and is kept by its user in a cell. Opening
    does no I/O. Raises ValueError on a URL that names no store of that sort, ImportError where a package is missing.
    """

    def revocations(self, url: str, ports: Ports) -> Revocations: ...

    def api_keys(self, url: str, ports: Ports) -> ApiKeyRecords: ...

    def counters(self, url: str, ports: Ports) -> Counters: ...

    def plans(self, url: str, ports: Ports) -> Plans: ...


Secrets = Callable[[str], str]
"""The secret that a reference names: `env:NAME`, `file:/path` (its last line break cut), or the text itself otherwise.
Raises MissingSecret."""


Zone = Callable[[float], float]
"""By how many seconds the clocks of a time zone are ahead of UTC at a moment, in seconds since the Unix epoch."""

Zones = Callable[[str], Zone]
"""The time zone of that name in the IANA database, as in `Europe/Zurich`. Raises ValueError where there is none."""


def no_zones(name: str) -> Zone:
    """`Zones` where there is no database. Raises ValueError."""
    raise ValueError(f"the time zone {name} cannot be looked up here: write UTC, or an offset such as +01:00")


def plain_secret(reference: str) -> str:
    """`Secrets` where there is no environment to look into: only the text itself. Raises MissingSecret on a reference."""
    if reference.startswith(("env:", "file:")):
        raise MissingSecret(f"{reference} cannot be looked up here: give ports with `secrets`")
    return reference


def is_file_reference(url: str) -> bool:
    """Whether it names a file that holds the URL of a store, and is none itself: `file://` is one, `file:/` is not."""
    return url.startswith("file:") and not url.startswith("file://")


def store_url(url: str, ports: Ports) -> str:
    """The URL of a store, where `url` is a reference to it (`env:NAME`, `file:/path`), or itself. Raises MissingSecret."""
    return ports.secrets(url) if url.startswith("env:") or is_file_reference(url) else url


async def in_place(key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
    """`Once` where nothing runs at the same time: the work is done in the caller's place."""
    return await work()


class Cells:
    """State that outlives a reload: small mutable objects under the identity of what they belong to.

    A cell is made on first request and handed out again to whoever asks with the same key. No cell may hold an object
    of an event loop.
    """

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        self._cells: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The cell of that key, made by `make` if there is none yet."""
        try:
            found: T = self._cells[key]
        except KeyError:
            found = self._cells[key] = make()
        return found

    def retain(self, keys: Iterable[Hashable]) -> None:
        """Forget every cell but these: after a reload, those of the generations that are still in use."""
        kept = set(keys)
        for key in [key for key in self._cells if key not in kept]:
            del self._cells[key]

    def __len__(self) -> int:
        return len(self._cells)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._cells


Lock = Callable[[], AbstractContextManager[object]]
"""Makes a guard for state that threads of a WSGI server or several loops may touch; held for a few operations, never
across an await."""


class Ports:
    """The ports a spec is bound with. Asking for one that was not given raises MissingPort with what to do.

    `owner` names whom the bound policy belongs to (`gateway`, `route:orders`); with the kind and settings of the spec
    it makes the identity under which `cell` keeps state across reloads. `development` says that this is a developer's
    machine, where credentials that anybody could make are taken. `processes` is how many processes this one is of:
    each counts for itself what is not kept in a shared store.
    """

    __slots__ = (
        "_clock", "_fetch", "_random", "_signals", "_stores", "_used", "cells", "counters", "development", "disk", "events",
        "lock", "once", "owner", "processes", "revocations", "secrets", "zones",
    )  # fmt: skip

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        counters: Counters | None = None,
        fetch: Fetch | None = None,
        revocations: Revocations | None = None,
        stores: Stores | None = None,
        once: Once = in_place,
        disk: Disk | None = None,
        secrets: Secrets = plain_secret,
        zones: Zones = no_zones,
        signals: Signals | None = None,
        processes: int = 1,
        development: bool = False,
        events: Events | None = None,
        cells: Cells | None = None,
        lock: Lock = nullcontext,
        owner: str = "",
        used: set[Hashable] | None = None,
    ) -> None:
        self._clock = clock
        self._random = random
        self._fetch = fetch
        self._stores = stores
        self._signals = signals
        self.counters = counters
        self.processes = processes
        self.revocations = revocations
        self.once = once
        self.disk = disk
        self.secrets = secrets
        self.zones = zones
        self.development = development
        self.events = Events() if events is None else events
        self.cells = Cells() if cells is None else cells
        self.lock = lock
        self.owner = owner
        self._used: set[Hashable] = set() if used is None else used

    @property
    def clock(self) -> Clock:
        if self._clock is None:
            raise MissingPort("clock")
        return self._clock

    @property
    def random(self) -> Random:
        if self._random is None:
            raise MissingPort("random")
        return self._random

    @property
    def fetch(self) -> Fetch:
        if self._fetch is None:
            raise MissingPort("fetch")
        return self._fetch

    @property
    def stores(self) -> Stores:
        if self._stores is None:
            raise MissingPort("stores")
        return self._stores

    @property
    def signals(self) -> Signals:
        if self._signals is None:
            raise MissingPort("signals")
        return self._signals

    def afresh(self) -> Ports:
        """The same ports with an account of used cells of their own: one generation's."""
        return self._derived(self.owner, set())

    def _derived(self, owner: str, used: set[Hashable]) -> Ports:
        return Ports(
            clock=self._clock,
            random=self._random,
            counters=self.counters,
            fetch=self._fetch,
            revocations=self.revocations,
            stores=self._stores,
            once=self.once,
            disk=self.disk,
            secrets=self.secrets,
            zones=self.zones,
            signals=self._signals,
            processes=self.processes,
            development=self.development,
            events=self.events,
            cells=self.cells,
            lock=self.lock,
            owner=owner,
            used=used,
        )

    @property
    def used(self) -> frozenset[Hashable]:
        """The keys of every cell that was asked for through these ports or ones derived from them."""
        return frozenset(self._used)

    def cell(self, key: Hashable, make: Callable[[], T]) -> T:
        """The cell of this owner under `key`; a later generation that asks the same finds it as it was left."""
        full = (self.owner, key)
        self._used.add(full)
        return self.cells.get(full, make)

    def owned_by(self, owner: str) -> Ports:
        """The same ports for another owner; cells used through either are accounted together."""
        return self._derived(owner, self._used)
