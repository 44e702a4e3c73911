"""The unit test of a policy as the design shows it, word for word."""

from __future__ import annotations

from gatekit import RateLimit


def test_a_policy_in_a_unit_test_no_server_no_loop_no_sleep() -> None:
    from gatekit.testing import ManualClock, decide, request

    clock = ManualClock(); policy = RateLimit("2/second", by="client_ip").bind(clock=clock)  # fmt: skip  # noqa: E702
    assert decide(policy, request("GET", "/", client="203.0.113.9")) is None

    assert decide(policy, request("GET", "/", client="203.0.113.9")) is None
    refused = decide(policy, request("GET", "/", client="203.0.113.9"))
    assert refused is not None
    assert (refused.status, refused.reason) == (429, "rate_limit.exceeded")
    assert decide(policy, request("GET", "/", client="203.0.113.10")) is None
    clock.advance(1.0)
    assert decide(policy, request("GET", "/", client="203.0.113.9")) is None
