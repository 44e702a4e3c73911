"""The compiled pipeline: tuples of hooks that drivers run, and the hooks' shared execution rules.

A policy at place `i` has been *entered* once its turn in `decide` came. Only policies that were entered see the
response and the outcome, as if each were a middleware around those after it: a reply of policy `i` passes `i`,
`i - 1`, … `0`. That makes one run of n policies and n runs of one policy the same.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from gatekit.core.destination import Destination
from gatekit.core.events import Events, PolicyFailed, RequestRefused
from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.headers import Headers
from gatekit.core.outcome import Fault, Outcome
from gatekit.core.policy import (
    BodyFilter,
    DecideHook,
    ExplainHook,
    FilterHook,
    Hooks,
    ObserveHook,
    ResponseHook,
    TrailersHook,
)
from gatekit.core.verdict import ErrorShape, Reply

_log = logging.getLogger("gatekit")


def _by_owner(entry: tuple[int, bytes, bytes]) -> int:
    return -entry[0]


class DecideStep:
    """One policy's turn: `index` is its place, `requires` what must have been provided by now (checked at run time
    only where building could not prove it)."""

    __slots__ = ("call", "index", "kind", "needs_body", "requires")

    def __init__(self, index: int, hooks: Hooks, requires: tuple[str, ...]) -> None:
        self.index = index
        self.kind = hooks.kind
        self.call: DecideHook | None = hooks.decide
        self.needs_body = hooks.needs_body
        self.requires = requires


class RespondStep:
    """One policy's hooks on a response head."""

    __slots__ = ("body_filter", "filters_event_streams", "index", "kind", "on_response")

    def __init__(self, index: int, hooks: Hooks) -> None:
        self.index = index
        self.kind = hooks.kind
        self.on_response: ResponseHook | None = hooks.on_response
        self.body_filter: FilterHook | None = hooks.body_filter
        self.filters_event_streams = hooks.filters_event_streams


class Pipeline:
    """The hooks of a list of bound policies, and what stands behind them.

    Behind them is a `destination`, or the embedded app (`destination` is None and the driver has an app), or nothing:
    then the exchange carries a refusal. `proven` says that `requires` were checked when this was built.
    """

    __slots__ = (
        "decides", "destination", "events", "explains", "filters", "kinds", "observes", "responds", "shape", "size", "trailers",
    )  # fmt: skip

    def __init__(
        self,
        hooks: Sequence[Hooks],
        *,
        events: Events,
        destination: Destination | None = None,
        shape: ErrorShape | None = None,
        proven: bool = False,
    ) -> None:
        self.kinds = tuple(one.kind for one in hooks)
        self.size = len(hooks)
        self.events = events
        self.destination = destination
        self.shape = shape
        provided: frozenset[str] = frozenset()
        decides: list[DecideStep] = []
        for index, one in enumerate(hooks):
            requires = () if proven else tuple(sorted(one.placement.requires - provided))
            provided |= one.placement.provides
            if one.decide is not None or one.needs_body is not None or requires:
                decides.append(DecideStep(index, one, requires))
        self.decides = tuple(decides)
        self.responds = tuple(
            RespondStep(index, one)
            for index, one in reversed(list(enumerate(hooks)))
            if one.on_response is not None or one.body_filter is not None
        )
        self.filters = any(one.body_filter is not None for one in hooks)
        self.trailers: tuple[tuple[int, str, TrailersHook], ...] = tuple(
            (index, one.kind, one.on_trailers)
            for index, one in reversed(list(enumerate(hooks)))
            if one.on_trailers is not None
        )
        self.explains: tuple[tuple[str, ExplainHook], ...] = tuple(
            (one.kind, one.explain) for one in hooks if one.explain is not None
        )
        self.observes: tuple[tuple[int, str, ObserveHook], ...] = tuple(
            (index, one.kind, one.observe) for index, one in enumerate(hooks) if one.observe is not None
        )

    # -- execution rules that both drivers follow. `entered` is how many policies have been entered.

    def missing(self, exchange: Exchange, step: DecideStep) -> Reply | None:
        """A refusal when something a policy requires was not provided: it fails closed."""
        for fact in step.requires:
            if not exchange.has(fact):
                _log.error(
                    "policy %s needs %r, which nothing before it provided: the request is refused. Put the policy that "
                    "provides it before (outside of) this one.",
                    step.kind,
                    fact,
                )
                exchange.fault = Fault.GATEWAY
                return Reply(500, "policy.missing_requirement")
        return None

    def failed(self, exchange: Exchange, kind: str, hook: str, error: BaseException) -> Reply:
        """A hook raised: log it, tell who listens, and refuse the request."""
        _log.error("policy %s raised in %s", kind, hook, exc_info=error)
        self.events.emit(PolicyFailed(kind, hook, error))
        exchange.fault = Fault.GATEWAY
        return Reply(500, "policy.failed")

    def refused(self, exchange: Exchange, kind: str, reply: Reply) -> None:
        """Note who answered and why."""
        exchange.reason = reply.reason
        if self.events.wants(RequestRefused):
            route = None if exchange.route is None else exchange.route.id
            self.events.emit(RequestRefused(kind, reply.reason, reply.status, route))

    def respond(
        self, exchange: Exchange, head: ResponseHead, entered: int, filters: list[BodyFilter]
    ) -> tuple[Reply | None, int]:
        """Run the response hooks on `head`, innermost first, apply queued headers, and collect the body filters.

        A Reply says that a hook failed: the response is to be replaced by it and taken through the policies outside of
        that one, whose number comes with it.
        """
        exchange.answered = True
        if exchange.queue is not None:
            return self._respond_queued(exchange, head, entered, filters, exchange.queue)
        for step in self.responds:
            if step.index < entered:
                failure = self._respond_one(exchange, head, step, filters)
                if failure is not None:
                    return failure, step.index
        return None, 0

    def _respond_queued(
        self,
        exchange: Exchange,
        head: ResponseHead,
        entered: int,
        filters: list[BodyFilter],
        queue: list[tuple[int, bytes, bytes]],
    ) -> tuple[Reply | None, int]:
        if not self.responds:
            # What an inner policy queued comes first, so that an outer one's word is the last.
            told = {name: value for owner, name, value in sorted(queue, key=_by_owner) if owner < entered}
            head.put_all(told)
            return None, 0
        steps = {step.index: step for step in self.responds}
        for index in range(entered - 1, -1, -1):
            for owner, name, value in queue:
                if owner == index:
                    head.put(name, value)
            step = steps.get(index)
            if step is not None:
                failure = self._respond_one(exchange, head, step, filters)
                if failure is not None:
                    return failure, index
        return None, 0

    def _respond_one(
        self, exchange: Exchange, head: ResponseHead, step: RespondStep, filters: list[BodyFilter]
    ) -> Reply | None:
        """One policy's turn. A filtered body has another length and is another representation: Content-Length and
        Accept-Ranges go, a strong ETag becomes a weak one."""
        try:
            if step.on_response is not None:
                step.on_response(exchange, head)
            if step.body_filter is None or not head.has_body:
                return None
            if head.is_event_stream and not step.filters_event_streams:
                return None
            found = step.body_filter(exchange, head)
        except Exception as error:
            return self.failed(exchange, step.kind, "on_response", error)
        if found is not None:
            filters.append(found)
            head.remove(b"content-length")
            head.remove(b"accept-ranges")
            tag = head.get_bytes(b"etag")
            if tag is not None and not tag.startswith(b"W/"):
                head.set(b"etag", b"W/" + tag)
        return None

    def trail(self, exchange: Exchange, trailers: Headers, entered: int) -> None:
        """Run the trailer hooks. One that raises is reported and the trailers it saw are dropped."""
        for index, kind, hook in self.trailers:
            if index < entered:
                try:
                    hook(exchange, trailers)
                except Exception as error:
                    self.failed(exchange, kind, "on_trailers", error)
                    trailers.raw = []

    def observe(self, exchange: Exchange, outcome: Outcome, entered: int) -> None:
        """Tell every policy that was entered how it ended. One that raises is reported; the others still hear."""
        for index, kind, hook in self.observes:
            if index < entered:
                try:
                    hook(exchange, outcome)
                except Exception as error:
                    _log.error("policy %s raised in observe", kind, exc_info=error)
                    self.events.emit(PolicyFailed(kind, "observe", error))
