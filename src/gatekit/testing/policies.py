"""Policies without a server: run one hook, or a whole pipeline, in memory and without an event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from gatekit.core.events import Events, PolicyFailed
from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Outcome, finished, raised
from gatekit.core.pipeline import DecideStep, Pipeline
from gatekit.core.policy import BodyFilter, Hooks, Spec, bound
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply, render
from gatekit.errors import PolicySuspended
from gatekit.testing.exchanges import HeaderItems, raw_headers
from gatekit.testing.fakes import test_ports

T = TypeVar("T")


class _Bound(Spec):
    """Stands in for the spec of a policy that a test hands over bound."""


def step(coroutine: Coroutine[Any, Any, T], what: str) -> T:
    """The result of a coroutine that never waits. Raises PolicySuspended, and closes it, when it does."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    coroutine.close()
    raise PolicySuspended(
        f"{what} waited for an event loop. Under WSGI that request would be refused: await ports only, and bind with "
        "ports that answer from memory."
    )


def _pipeline(policy: object, events: Events | None = None) -> Pipeline:
    if isinstance(policy, Spec) and type(policy).bind_to is not Spec.bind_to:
        name = type(policy).__name__
        raise TypeError(f"{name} is a spec: bind it first, {name}(...).bind(clock=ManualClock())")
    return Pipeline([Hooks(_Bound(), policy)], events=Events() if events is None else events, proven=True)


def decide(policy: object, exchange: Exchange) -> Reply | None:
    """What a bound policy says to this exchange: None to carry on, or its Reply.

    There is no event loop: raises PolicySuspended when the policy waits for anything but a port in memory. Where the
    policy has `needs_body`, the body is buffered first; one over the cap gives the 413 that a driver would send.
    """
    for one in _pipeline(policy).decides:
        reply = _decide(one, exchange, type(policy).__name__)
        if reply is not None:
            return reply
    return None


def _decide(one: DecideStep, exchange: Exchange, name: str) -> Reply | None:
    if one.needs_body is not None and step(exchange.body.buffer(one.needs_body), name) is None:
        return Reply(413, "body.too_large", f"The body is larger than {one.needs_body} bytes.")
    if one.call is None:
        return None
    answer = one.call(exchange)
    if isinstance(answer, Coroutine):
        found: Reply | None = step(answer, f"{name}.decide")
        return found
    if answer is not None and not isinstance(answer, Reply):
        raise TypeError(f"{name}.decide gave {answer!r}: a decide gives a Reply or None")
    return answer


def respond(
    policy: object,
    exchange: Exchange,
    status: int = 200,
    headers: HeaderItems | None = None,
    body: bytes | Iterable[bytes] = b"",
) -> tuple[ResponseHead, bytes]:
    """The head and body of a response once it has passed this policy: queued headers, `on_response`, `body_filter`.

    What a hook raises is raised here; a driver would answer 500.
    """
    failures: list[PolicyFailed] = []
    events = Events()
    events.subscribe(PolicyFailed, failures.append)
    head = ResponseHead(status, raw_headers(headers))
    filters: list[BodyFilter] = []
    _pipeline(policy, events).respond(exchange, head, 1, filters)
    if failures:
        raise failures[0].error
    return head, filtered(filters, [body] if isinstance(body, bytes) else body)


def filtered(filters: Sequence[BodyFilter], parts: Iterable[bytes]) -> bytes:
    """The body after every filter, innermost first, each finished before the next."""
    flow = list(parts)
    for one in filters:
        flow = [*(one.feed(part) for part in flow if part), one.finish()]
    return b"".join(flow)


def observe(policy: object, exchange: Exchange, outcome: Outcome) -> None:
    """Tell a bound policy how the exchange ended. What its hook raises is raised here."""
    hook = getattr(policy, "observe", None)
    if hook is not None:
        hook(exchange, outcome)


class Run(NamedTuple):
    """What came of a whole pipeline: the response, the outcome that was observed, and how many policies were
    entered."""

    status: int
    head: ResponseHead
    body: bytes
    outcome: Outcome
    entered: int


InnerApp = Callable[[Exchange], tuple[int, HeaderItems, bytes]]
"""What stands behind the policies in `run`: status, headers and body for an exchange."""


def _hello(exchange: Exchange) -> tuple[int, HeaderItems, bytes]:
    return 200, {"content-type": "text/plain", "content-length": "2"}, b"ok"


def run(
    specs: Sequence[Spec],
    exchange: Exchange,
    app: InnerApp = _hello,
    *,
    ports: Ports | None = None,
) -> Run:
    """Take an exchange through all these policies, in the order given, in front of `app`.

    Every rule that drivers follow holds: a reply passes only the policies that were entered, what a hook raises
    becomes a 500, and `observe` runs once. An exception of `app` is observed and raised.
    """
    the_ports = test_ports() if ports is None else ports
    pipeline = Pipeline([bound(spec, the_ports) for spec in specs], events=the_ports.events)
    reply, entered = _decided(pipeline, exchange)
    ours = reply is not None
    if reply is None:
        try:
            status, headers, content = app(exchange)
        except Exception as error:
            pipeline.observe(exchange, raised(None, error), entered)
            raise
        head = ResponseHead(status, raw_headers(headers))
    else:
        head, content = render(reply, exchange, pipeline.shape)
    filters: list[BodyFilter] = []
    failure, outside = pipeline.respond(exchange, head, entered, filters)
    while failure is not None:
        ours, filters = True, []
        exchange.reason = failure.reason
        head, content = render(failure, exchange, pipeline.shape)
        failure, outside = pipeline.respond(exchange, head, outside, filters)
    body = filtered(filters, [content]) if head.has_body else b""
    if exchange.method == "HEAD":
        body = b""
    outcome = finished(head.status, reason=exchange.reason, ours=ours, fault=exchange.fault)
    pipeline.observe(exchange, outcome, entered)
    return Run(head.status, head, body, outcome, entered)


def _decided(pipeline: Pipeline, exchange: Exchange) -> tuple[Reply | None, int]:
    """The first reply, and how many policies had been entered by then."""
    for one in pipeline.decides:
        exchange.cursor = one.index
        reply = pipeline.missing(exchange, one)
        if reply is None:
            try:
                reply = _decide(one, exchange, one.kind)
            except Exception as error:
                reply = pipeline.failed(exchange, one.kind, "decide", error)
        if reply is not None:
            pipeline.refused(exchange, one.kind, reply)
            return reply, one.index + 1
    if exchange.refusal is not None:
        exchange.reason = exchange.refusal.reason
    return exchange.refusal, pipeline.size
