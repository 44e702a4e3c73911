"""The test kit: policies, middlewares and gateways tested without a server, a loop, a sleep or a network.

Nothing in gatekit imports it, and it may import everything. Names are loaded when they are first asked for (PEP 562):
pytest loads `plugin` before it measures coverage, and importing the package must not import what is to be measured.
`strategies` (needs `hypothesis`), `plugin` (needs `pytest`) and `counters`, the conformance kit of counters, are modules of
their own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatekit.testing.asgi import call, http_scope
    from gatekit.testing.clock import FixedRandom, ManualClock, SeededRandom
    from gatekit.testing.exchanges import DoorRefused, MemoryBody, request
    from gatekit.testing.fakes import (
        FakeCounters,
        FakeDisk,
        FakeFetch,
        FakeRevocations,
        FakeStores,
        FetchCall,
        test_ports,
    )
    from gatekit.testing.faults import Close, Drip, FaultProxy, Garble, HalfClose, Refuse, Reset, Stall, Truncate
    from gatekit.testing.policies import Run, decide, observe, respond, run
    from gatekit.testing.probes import Log, Probe, Replacing
    from gatekit.testing.responses import ProtocolBroken, TestResponse
    from gatekit.testing.signals import FakeSignals, Waiting
    from gatekit.testing.suspension import Suspensions, never_suspends
    from gatekit.testing.upstream import Answer, Seen, Upstream
    from gatekit.testing.websockets import websocket
    from gatekit.testing.wsgi import Closes, call_wsgi, environ

_HOMES = {
    "Answer": "upstream",
    "Close": "faults",
    "Closes": "wsgi",
    "DoorRefused": "exchanges",
    "Drip": "faults",
    "FakeCounters": "fakes",
    "FakeDisk": "fakes",
    "FakeFetch": "fakes",
    "FakeRevocations": "fakes",
    "FakeSignals": "signals",
    "FakeStores": "fakes",
    "FaultProxy": "faults",
    "FetchCall": "fakes",
    "FixedRandom": "clock",
    "Garble": "faults",
    "HalfClose": "faults",
    "Log": "probes",
    "ManualClock": "clock",
    "MemoryBody": "exchanges",
    "Probe": "probes",
    "ProtocolBroken": "responses",
    "Refuse": "faults",
    "Replacing": "probes",
    "Reset": "faults",
    "Run": "policies",
    "SeededRandom": "clock",
    "Seen": "upstream",
    "Stall": "faults",
    "Suspensions": "suspension",
    "TestResponse": "responses",
    "Truncate": "faults",
    "Upstream": "upstream",
    "Waiting": "signals",
    "call": "asgi",
    "call_wsgi": "wsgi",
    "decide": "policies",
    "environ": "wsgi",
    "http_scope": "asgi",
    "never_suspends": "suspension",
    "observe": "policies",
    "request": "exchanges",
    "respond": "policies",
    "run": "policies",
    "test_ports": "fakes",
    "websocket": "websockets",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'gatekit.testing' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"gatekit.testing.{home}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Answer", "Close", "Closes", "DoorRefused", "Drip", "FakeCounters", "FakeDisk", "FakeFetch", "FakeRevocations",
    "FakeSignals", "FakeStores", "FaultProxy", "FetchCall", "FixedRandom", "Garble", "HalfClose", "Log",
    "ManualClock", "MemoryBody", "Probe", "ProtocolBroken", "Refuse", "Replacing", "Reset", "Run", "SeededRandom",
    "Seen", "Stall", "Suspensions", "TestResponse", "Truncate", "Upstream", "Waiting", "call", "call_wsgi", "decide",
    "environ", "http_scope", "never_suspends", "observe", "request", "respond", "run", "test_ports", "websocket",
]  # fmt: skip
