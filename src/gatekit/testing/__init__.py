"""The test kit: policies, middlewares and gateways tested without a server, a loop, a sleep or a network.

Nothing in gatekit imports it, and it may import everything. `strategies` (needs `hypothesis`) and `plugin` (needs
`pytest`) are modules of their own.
"""

from gatekit.testing.asgi import call, http_scope
from gatekit.testing.clock import FixedRandom, ManualClock, SeededRandom
from gatekit.testing.exchanges import DoorRefused, MemoryBody, request
from gatekit.testing.fakes import FakeCounters, FakeFetch, FakeRevocations, FetchCall, test_ports
from gatekit.testing.policies import Run, decide, observe, respond, run
from gatekit.testing.probes import Log, Probe, Replacing
from gatekit.testing.responses import ProtocolBroken, TestResponse
from gatekit.testing.suspension import Suspensions, never_suspends
from gatekit.testing.upstream import Answer, Seen, Upstream
from gatekit.testing.websockets import websocket
from gatekit.testing.wsgi import Closes, call_wsgi, environ

__all__ = [
    "Answer", "Closes", "DoorRefused", "FakeCounters", "FakeFetch", "FakeRevocations", "FetchCall", "FixedRandom",
    "Log", "ManualClock", "MemoryBody", "Probe", "ProtocolBroken", "Replacing", "Run", "Seen", "SeededRandom",
    "Suspensions", "TestResponse", "Upstream", "call", "call_wsgi", "decide", "environ", "http_scope",
    "never_suspends", "observe", "request", "respond", "run", "test_ports", "websocket",
]  # fmt: skip
