"""Access lines at work. Nothing is formatted that nobody wants to have."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Outcome
from gatekit.core.ports import Clock, Ports
from gatekit.policies.telemetry.line import Fields, as_json, as_text

if TYPE_CHECKING:
    from gatekit.policies.telemetry.config import Telemetry


class TelemetryPolicy:
    """Has the hooks that its spec asks for, and no others."""

    __slots__ = ("observe", "on_response")

    def __init__(self, spec: Telemetry, ports: Ports) -> None:
        if spec.access_log:
            self.observe = _access_line(spec, ports.clock)
        if spec.request_id_header is not None:
            self.on_response = _request_id(spec.request_id_header.encode("ascii"))


def _access_line(spec: Telemetry, clock: Clock) -> Callable[[Exchange, Outcome], None]:
    logger = logging.getLogger(spec.logger)
    level = logging.getLevelNamesMapping()[spec.level.upper()]
    written = as_json if spec.format == "json" else as_text

    def observe(exchange: Exchange, outcome: Outcome) -> None:
        if logger.isEnabledFor(level):
            fields = collected(exchange, outcome, clock)
            # The line is the message as it is: without arguments, logging does not format it.
            logger.log(level, written(fields), extra={"access": fields})

    return observe


def _request_id(name: bytes) -> Callable[[Exchange, ResponseHead], None]:
    def on_response(exchange: Exchange, head: ResponseHead) -> None:
        head.set(name, exchange.request_id)

    return on_response


def collected(exchange: Exchange, outcome: Outcome, clock: Clock) -> Fields:
    """What is told of one request. `time` is seconds since the Unix epoch at its end, `duration` seconds."""
    route, identity = exchange.route, exchange.identity
    return {
        "time": round(clock.wall(), 3),
        "method": exchange.method,
        "host": exchange.host,
        "path": exchange.path,
        "route": None if route is None else route.template,
        "status": outcome.status,
        "reason": outcome.reason,
        "fault": outcome.fault.value,
        "complete": outcome.complete,
        "duration": round(clock.monotonic() - exchange.started, 6),
        "bytes": exchange.sent,
        "client_ip": exchange.client_ip,
        "subject": None if identity is None else identity.subject or None,
        "tenant": None if identity is None else identity.tenant,
        "authz.rule": exchange.fact("authz.rule"),
        "backend": exchange.backend,
        "attempts": exchange.attempts,
        "generation": exchange.generation,
        "request_id": exchange.request_id,
    }
