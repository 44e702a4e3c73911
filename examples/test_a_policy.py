"""A policy in a unit test: no server, no loop, no sleep. `pytest test_a_policy.py`, or run it as a script."""

from __future__ import annotations

from gatekit import RateLimit
from gatekit.testing import ManualClock, decide, request


def test_two_a_second() -> None:
    clock = ManualClock()
    policy = RateLimit("2/second", by="client_ip").bind(clock=clock)
    assert decide(policy, request("GET", "/", client="203.0.113.9")) is None
    assert decide(policy, request("GET", "/", client="203.0.113.9")) is None
    refused = decide(policy, request("GET", "/", client="203.0.113.9"))
    assert refused is not None
    assert refused.status == 429
    assert decide(policy, request("GET", "/", client="203.0.113.10")) is None
    clock.advance(0.5)
    assert decide(policy, request("GET", "/", client="203.0.113.9")) is None


if __name__ == "__main__":
    test_two_a_second()
