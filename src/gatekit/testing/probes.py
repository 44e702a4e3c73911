"""`Probe`: a policy whose hooks a test gives, and which writes down every call of them.

For tests of what runs policies, and of where in an order something happens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from pydantic import SkipValidation

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.headers import Headers
from gatekit.core.outcome import Outcome
from gatekit.core.policy import BodyFilter, Placement, Spec, Stage
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply

Log = list[tuple[Any, ...]]
"""What happened: `("a", "decide")`, `("a", "on_response", 200)`, `("a", "observe", 200, "nobody")`, in order."""


class Probe(Spec):
    """A policy called `name` that records its calls in `log` and then does what the given hooks say.

    `decide` may be plain or async. A hook that is not given records and does nothing; `body_filter`, `on_trailers` and
    `needs_body` exist only if given.
    """

    kind: ClassVar[str] = "probe"
    positional: ClassVar[tuple[str, ...]] = ("name", "log")

    name: str
    log: SkipValidation[Log]
    decide: Callable[[Exchange], Reply | Awaitable[Reply | None] | None] | None = None
    on_response: Callable[[Exchange, ResponseHead], None] | None = None
    body_filter: Callable[[Exchange, ResponseHead], BodyFilter | None] | None = None
    on_trailers: Callable[[Exchange, Headers], None] | None = None
    observe: Callable[[Exchange, Outcome], None] | None = None
    needs_body: int | None = None
    filters_event_streams: bool = False
    requires: frozenset[str] = frozenset()
    provides: frozenset[str] = frozenset()
    stage: Stage = Stage.TRANSFORM

    def __init__(self, name: str, log: Log, **hooks: Any) -> None:
        super().__init__(name, log, **hooks)

    def placement(self) -> Placement:
        return Placement(self.stage, self.requires, self.provides)

    def bind_to(self, ports: Ports) -> object:
        return _BoundProbe(self)


class _BoundProbe:
    """The hooks of one probe. Those a policy may lack are set only where they were given."""

    def __init__(self, spec: Probe) -> None:
        self._spec = spec
        self._log = spec.log
        self.needs_body = spec.needs_body
        self.filters_event_streams = spec.filters_event_streams
        if spec.body_filter is not None:
            self.body_filter = self._body_filter
        if spec.on_trailers is not None:
            self.on_trailers = self._on_trailers

    async def decide(self, exchange: Exchange) -> Reply | None:
        self._log.append((self._spec.name, "decide"))
        if self._spec.decide is None:
            return None
        answer = self._spec.decide(exchange)
        return answer if answer is None or isinstance(answer, Reply) else await answer

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        self._log.append((self._spec.name, "on_response", head.status))
        if self._spec.on_response is not None:
            self._spec.on_response(exchange, head)

    def _body_filter(self, exchange: Exchange, head: ResponseHead) -> BodyFilter | None:
        self._log.append((self._spec.name, "body_filter"))
        return None if self._spec.body_filter is None else self._spec.body_filter(exchange, head)

    def _on_trailers(self, exchange: Exchange, trailers: Headers) -> None:
        self._log.append((self._spec.name, "on_trailers"))
        if self._spec.on_trailers is not None:
            self._spec.on_trailers(exchange, trailers)

    def observe(self, exchange: Exchange, outcome: Outcome) -> None:
        self._log.append((self._spec.name, "observe", outcome.status, outcome.fault.value))
        if self._spec.observe is not None:
            self._spec.observe(exchange, outcome)


class Replacing:
    """A body filter that changes every part by `change` and adds `tail` at the end."""

    __slots__ = ("_change", "_tail")

    def __init__(self, change: Callable[[bytes], bytes] = bytes.upper, tail: bytes = b"") -> None:
        self._change = change
        self._tail = tail

    def feed(self, data: bytes) -> bytes:
        return self._change(data)

    def finish(self) -> bytes:
        return self._tail
