"""The kit's half that needs no server: clock, ports, exchanges, hooks and whole runs."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from hypothesis import given, settings

from gatekit.core.counters import Ask, Limit
from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.identity import Identity
from gatekit.core.outcome import Fault, finished
from gatekit.core.paths import canonical
from gatekit.core.policy import Spec
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.errors import PolicySuspended, StoreUnavailable
from gatekit.testing import (
    DoorRefused,
    FakeCounters,
    FakeFetch,
    FakeRevocations,
    FakeStores,
    FixedRandom,
    Log,
    ManualClock,
    Probe,
    Replacing,
    SeededRandom,
    Suspensions,
    decide,
    observe,
    request,
    respond,
    run,
    test_ports,
)
from gatekit.testing.policies import step
from gatekit.testing.strategies import exchanges, header_lists, hosts, methods, raw_paths


def test_the_clock_moves_only_when_told() -> None:
    clock = ManualClock(monotonic=5.0, wall=100.0)
    clock.advance(2.5)
    clock.set_wall(50.0)
    assert (clock.monotonic(), clock.wall()) == (7.5, 50.0)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_randomness_repeats() -> None:
    fixed = FixedRandom(0.1, 0.9)
    assert [fixed.random() for _ in range(3)] == [0.1, 0.9, 0.1]
    assert fixed.token(2) == b"\x00\x01"
    assert fixed.token(2) == b"\x00\x02"
    assert FixedRandom().random() == 0.5
    assert [SeededRandom(3).random()] == [SeededRandom(3).random()]
    assert len(SeededRandom().token(16)) == 16
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        FixedRandom(1.0)


def test_counters_are_all_or_nothing() -> None:
    clock = ManualClock()
    counters = FakeCounters(clock)
    wide, narrow = (Ask(key, Limit(amount, 10.0, "fixed_window")) for key, amount in (("a", 3), ("b", 1)))
    first = step(counters.take([wide, narrow]), "take")
    assert [one.allowed for one in first] == [True, True]
    assert [one.remaining for one in first] == [2, 0]
    second = step(counters.take([wide, narrow]), "take")
    assert [one.allowed for one in second] == [True, False]
    assert [one.remaining for one in second] == [2, 0]
    assert second[1].retry_after == 10.0
    clock.advance(10.0)
    assert step(counters.take([wide, narrow]), "take")[1].allowed
    counters.unavailable = True
    with pytest.raises(StoreUnavailable):
        step(counters.take([wide]), "take")
    assert len(counters.asked) == 7
    counters.unavailable = False
    step(counters.charge([wide._replace(cost=-1)]), "charge")
    assert counters.charged == [wide._replace(cost=-1)]
    assert step(counters.take([wide]), "take")[0].remaining == 2


def test_fetch_gives_its_answers_in_order_and_refuses_the_rest() -> None:
    fetch = FakeFetch().answer("http://a/", status=503).answer("http://a/", json={"keys": []})
    fetch.answer("http://down/", error=StoreUnavailable("down"))
    assert step(fetch("GET", "http://a/"), "fetch").status == 503
    answer = step(fetch("GET", "http://a/", headers=[("x", "1")]), "fetch")
    assert answer == (200, {"content-type": "application/json"}, b'{"keys": []}')
    assert step(fetch("GET", "http://a/"), "fetch") == answer
    assert fetch.calls[1].headers == (("x", "1"),)
    with pytest.raises(StoreUnavailable):
        step(fetch("GET", "http://down/"), "fetch")
    with pytest.raises(AssertionError, match="nothing was scripted for GET http://b/"):
        step(fetch("GET", "http://b/"), "fetch")


def test_stores_have_counters_and_plans() -> None:
    ports = test_ports()
    stores = FakeStores(plans={"acme": "gold"})
    assert stores.plans("memory:", ports).find("acme") == "gold"
    assert stores.plans("memory:", ports).find("other") is None
    assert stores.counters("memory:", ports) is stores.counters("other:", ports) is stores.counted
    given = FakeCounters()
    assert FakeStores(counters=given).counters("memory:", ports) is given


def test_revocations_match_every_claim_named() -> None:
    revocations = FakeRevocations().revoke(jti="1").revoke("left", sub="ann", iss="x")
    assert revocations.revoked({"jti": "1", "sub": "bob"}) == "revoked"
    assert revocations.revoked({"sub": "ann", "iss": "x"}) == "left"
    assert revocations.revoked({"sub": "ann", "iss": "y"}) is None
    with pytest.raises(ValueError, match="at least one claim"):
        revocations.revoke()


def test_ports_come_ready_and_can_be_replaced() -> None:
    clock = ManualClock()
    ports = test_ports(clock=clock)
    assert ports.clock is clock
    assert ports.counters is None
    assert isinstance(test_ports(counters=FakeCounters()).counters, FakeCounters)


def test_a_request_is_taken_through_the_door() -> None:
    exchange = request(
        "POST", "https://Shop.example:8443/a/./b?q=1", body=[b"ab", b"c"], params={"id": "7"},
        identity=Identity("ann", scheme="test"), facts={"tier": "gold"}, client="10.0.0.1", trusted=["10.0.0.0/8"],
        headers={"X-Forwarded-For": "203.0.113.9"},
    )  # fmt: skip
    assert (exchange.scheme, exchange.host, exchange.port, exchange.path) == ("https", "shop.example", 8443, "/a/b")
    assert exchange.query == b"q=1"
    assert exchange.client_ip == "203.0.113.9"
    assert exchange.header("content-length") == "3"
    assert exchange.has("identity")
    assert exchange.has("tier")
    assert exchange.params == {"id": "7"}
    assert step(exchange.body.buffer(10), "body") == b"abc"
    assert step(exchange.body.read(), "body") == b"abc"
    assert step(exchange.body.read(), "body") == b""


def test_a_request_the_door_refuses_says_why() -> None:
    with pytest.raises(DoorRefused, match=r"400 door\.bad_path"):
        request("GET", "/%zz")
    refused = request("GET", "/a", headers=[("host", "a"), ("host", "b")], allow_refused=True).refusal
    assert refused is not None
    assert refused.reason == "door.bad_host"


def test_a_body_over_the_cap_is_413() -> None:
    policy = Probe("a", [], needs_body=2).bind()
    assert decide(policy, request("POST", body=b"ab")) is None
    reply = decide(policy, request("POST", body=b"abc"))
    assert reply is not None
    assert reply.status == 413


class Waits(Spec):
    async def decide(self, exchange: Exchange) -> Reply | None:
        await asyncio.get_running_loop().create_future()
        return None


class WaitsBare(Spec):
    async def decide(self, exchange: Exchange) -> Reply | None:
        await _Forever()
        return None


class _Forever:
    def __await__(self):  # type: ignore[no-untyped-def]
        yield


def test_a_policy_that_waits_is_an_error_and_its_coroutine_is_closed() -> None:
    with pytest.raises(PolicySuspended, match=r"WaitsBare\.decide waited for an event loop"):
        decide(WaitsBare(), request())


class Plain(Spec):
    answer: object = None

    def decide(self, exchange: Exchange) -> Reply | None:
        return self.answer  # type: ignore[return-value]


def test_decide_takes_plain_and_async_policies() -> None:
    reply = Reply(403, "no")
    assert decide(Plain(), request()) is None
    assert decide(Plain(answer=reply), request()) is reply
    assert decide(Probe("a", [], decide=lambda exchange: reply).bind(), request()) is reply
    with pytest.raises(TypeError, match="gives a Reply or None"):
        decide(Plain(answer=7), request())


def test_a_spec_where_a_bound_policy_belongs_is_an_error() -> None:
    with pytest.raises(TypeError, match="bind it first"):
        decide(Probe("a", []), request())


def test_respond_runs_queue_hook_and_filter() -> None:
    exchange = request()
    policy = Probe(
        "a", [],
        decide=lambda one: one.respond_with("X-Queued", "1"),
        on_response=lambda _, head: head.set("x-hook", "2"),
        body_filter=lambda _, head: Replacing(tail=b"!"),
    ).bind()  # fmt: skip
    decide(policy, exchange)
    head, body = respond(policy, exchange, 200, {"content-length": "2", "etag": '"v"'}, [b"a", b"b"])
    assert body == b"AB!"
    assert dict(head.raw) == {b"etag": b'W/"v"', b"x-queued": b"1", b"x-hook": b"2"}


def _raise(*_: object) -> None:
    raise RuntimeError("hook")


def test_what_a_hook_raises_is_raised() -> None:
    with pytest.raises(RuntimeError, match="hook"):
        respond(Probe("a", [], on_response=_raise).bind(), request())
    with pytest.raises(RuntimeError, match="hook"):
        observe(Probe("a", [], observe=_raise).bind(), request(), finished(200, reason=None, ours=False))
    observe(Plain(), request(), finished(200, reason=None, ours=False))


def test_a_run_takes_a_reply_back_through_the_entered_policies_only() -> None:
    log: Log = []
    specs = [Probe("a", log), Probe("b", log, decide=lambda _: Reply(429, "no")), Probe("c", log)]
    result = run(specs, request())
    assert result.status == 429
    assert result.outcome.reason == "no"
    assert log == [
        ("a", "decide"), ("b", "decide"), ("b", "on_response", 429), ("a", "on_response", 429),
        ("a", "observe", 429, "client"), ("b", "observe", 429, "client"),
    ]  # fmt: skip


def test_a_run_answers_500_for_a_hook_that_raises() -> None:
    log: Log = []
    result = run([Probe("a", log), Probe("b", log, on_response=_raise)], request())
    assert (result.status, result.outcome.reason, result.outcome.fault) == (500, "policy.failed", Fault.GATEWAY)
    assert ("a", "on_response", 500) in log
    assert run([Probe("a", log, decide=_raise)], request()).status == 500
    assert run([Probe("a", log, requires=frozenset({"x"}))], request()).status == 500


def test_a_run_observes_and_raises_what_the_app_raises() -> None:
    log: Log = []
    with pytest.raises(RuntimeError, match="hook"):
        run([Probe("a", log)], request(), _raise)  # type: ignore[arg-type]
    assert log[-1] == ("a", "observe", None, "app")


def test_a_refusal_of_the_door_runs_the_policies() -> None:
    log: Log = []
    result = run([Probe("a", log)], request("GET", "/%zz", allow_refused=True))
    assert result.status == 400
    assert log[0] == ("a", "decide")
    assert run([], request("HEAD")).body == b""


async def test_the_detector_finds_a_policy_that_waits_also_under_a_loop() -> None:
    with Suspensions() as suspensions:
        (fine,) = suspensions.watch(Probe("a", []))
        policy = fine.bind(test_ports())
        assert policy.decide(request()) is None
        assert not hasattr(policy, "needs_body") or policy.needs_body is None
    suspensions = Suspensions()
    (waits,) = suspensions.watch(Waits())
    with pytest.raises(PolicySuspended):
        waits.bind(test_ports()).decide(request())
    with pytest.raises(AssertionError, match=r"Waits: Waits\.decide waited"), suspensions:
        pass
    (plain,) = Suspensions().watch(Plain())
    assert not inspect.iscoroutinefunction(plain.bind(Ports()).decide)
    assert plain.placement() == Plain().placement()


@given(exchanges())
@settings(max_examples=40)
def test_strategies_make_exchanges_the_door_admits(exchange: Exchange) -> None:
    assert exchange.refusal is None
    assert canonical(exchange.raw_path).raw == exchange.raw_path


@given(methods(odd=True), hosts(), raw_paths(), header_lists())
@settings(max_examples=40)
def test_strategies_make_requests_the_door_can_read(
    method: str, host: str, path: str, headers: list[tuple[bytes, bytes]]
) -> None:
    exchange = request(method, path, headers=[("host", host), *headers], allow_refused=True)
    reply = exchange.refusal
    assert reply is None or reply.reason in ("door.bad_path", "door.odd_path")


def test_a_head_is_left_alone_by_a_policy_without_hooks() -> None:
    head, body = respond(Plain(), request(), 204, [("x", "1")])
    assert isinstance(head, ResponseHead)
    assert (head.status, head.raw, body) == (204, [(b"x", b"1")], b"")
