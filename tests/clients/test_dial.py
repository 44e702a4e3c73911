"""SE9: resolve once, judge every address, connect to what was judged. And happy eyeballs, without waiting."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.clients.addresses import AddressRules, TargetRefused
from gatekit.clients.dial import DialFailed, GuardedDialer
from gatekit.clients.eyeballs import interleave, system_resolve
from gatekit.errors import GatekitError

Address = IPv4Address | IPv6Address

NEVER = 3600.0


class Echo(asyncio.Protocol):
    """A protocol that knows its transport and when it was lost."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(None)


class Line:
    """Addresses that connect, fail or stay silent, as the test says; each connection is one end of a socket pair."""

    def __init__(self, **behaviour: object) -> None:
        self.behaviour = {key.replace("_", "."): how for key, how in behaviour.items()}
        self.tried: list[str] = []
        self.cancelled: list[str] = []
        self.given: dict[str, socket.socket] = {}
        self.pairs: list[socket.socket] = []

    async def connect(self, address: Address, port: int) -> socket.socket:
        name = str(address)
        self.tried.append(name)
        how = self.behaviour.get(name, OSError("refused"))
        if isinstance(how, BaseException):
            raise how
        try:
            if isinstance(how, asyncio.Event):
                await how.wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.pairs.append(theirs)
        self.given[name] = ours
        return ours

    def close(self) -> None:
        for sock in self.pairs:
            sock.close()


async def hang_up(protocol: Echo) -> None:
    protocol.transport.abort()
    await protocol.lost


async def turn() -> None:
    """One turn of the loop."""
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await future


def answers(*texts: str) -> Callable[[str], Any]:
    async def resolve(host: str) -> list[str]:
        return list(texts)

    return resolve


# -- the guard


async def test_se9_a_rebinding_resolver_never_leads_to_the_second_answer(net: Any) -> None:
    site = await net.serve(net.answering((200, {})))
    net.records["rebind.test"] = [["93.184.215.14"], ["127.0.0.1"]]
    dialer = net.dialer(AddressRules(ports=None), connect=net.pretend)
    _, protocol = await dialer.connect(Echo, "rebind.test", site.port)
    assert (net.looked_up, net.dialled) == (["rebind.test"], [("93.184.215.14", site.port)])
    await hang_up(protocol)
    with pytest.raises(TargetRefused, match=r"127\.0\.0\.1 is in 127\.0\.0\.0/8"):
        await dialer.connect(Echo, "rebind.test", site.port)
    assert net.looked_up == ["rebind.test", "rebind.test"]
    assert len(net.dialled) == 1


async def test_se9_the_loop_resolves_nothing_once_addresses_are_judged(
    net: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await net.serve(net.answering((200, {})))

    async def resolve_again(*given: Any, **settings: Any) -> Any:
        raise AssertionError("resolved again")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve_again)
    transport, protocol = await GuardedDialer(net.rules(), resolve=net.resolve).connect(Echo, "a.test", site.port)
    assert transport.get_extra_info("peername") == ("127.0.0.1", site.port)
    await hang_up(protocol)


@pytest.mark.parametrize(
    ("addresses", "bad"),
    [
        pytest.param(["8.8.8.8", "10.0.0.1"], "10.0.0.1", id="the bad one last"),
        pytest.param(["10.0.0.1", "8.8.8.8"], "10.0.0.1", id="the bad one first"),
        pytest.param(["8.8.8.8", "::1"], "::1", id="in the other family"),
        pytest.param(["2606:4700::1", "::ffff:169.254.169.254"], "169.254.169.254", id="mapped"),
        pytest.param(["127.0.0.1"], "127.0.0.1", id="alone"),
        pytest.param(["fe80::1%eth0"], "fe80::1%eth0", id="with a zone"),
        pytest.param(["8.8.8.8"] * 50 + ["0.0.0.0"], "0.0.0.0", id="behind many good ones"),
    ],
)
async def test_se9_one_bad_address_refuses_the_whole_name(addresses: list[str], bad: str) -> None:
    line = Line()
    dialer = GuardedDialer(AddressRules(), resolve=answers(*addresses), connect=line.connect)
    with pytest.raises(TargetRefused) as caught:
        await dialer.connect(Echo, "mixed.test", 443)
    assert caught.value.host == "mixed.test"
    assert caught.value.address in (ip_address(bad), ip_address(f"::ffff:{bad}") if "." in bad else None)
    assert caught.value.range is not None
    assert not line.tried


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "127.1", "2130706433", "fe80::1%lo",
     "localhost.", "", "a b", "\uff11\uff12\uff17.0.0.1", "[example.com]", "user@a.test", "a.test:80"],
    ids=ascii,
)  # fmt: skip
async def test_se9_hosts_that_are_refused_before_anything_is_resolved(net: Any, host: str) -> None:
    with pytest.raises(TargetRefused):
        await net.dialer(AddressRules()).connect(Echo, host, 443)
    assert (net.looked_up, net.dialled) == ([], [])


async def test_se9_a_port_that_is_not_allowed_is_refused_before_anything_is_resolved(net: Any) -> None:
    with pytest.raises(TargetRefused, match="port 6379"):
        await net.dialer(AddressRules()).connect(Echo, "a.test", 6379)
    assert net.looked_up == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::ffff:127.0.0.1", "[::ffff:127.0.0.1]"])
async def test_literals_are_dialled_as_they_are_judged(net: Any, host: str) -> None:
    site = await net.serve(net.answering((200, {})))
    transport, protocol = await net.dialer().connect(Echo, host, site.port)
    assert transport.get_extra_info("peername") == ("127.0.0.1", site.port)
    assert (net.looked_up, net.dialled) == ([], [("127.0.0.1", site.port)])
    await hang_up(protocol)


async def test_ipv6_is_dialled_over_ipv6() -> None:
    try:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    port = server.sockets[0].getsockname()[1]
    try:
        transport, protocol = await GuardedDialer(AddressRules.trusted()).connect(Echo, "::1", port)
        assert transport.get_extra_info("peername")[:2] == ("::1", port)
        await hang_up(protocol)
    finally:
        server.close()


# -- failures


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        pytest.param(socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "not known", id="no such name"),
        pytest.param(UnicodeError("label too long"), "label too long", id="no name for a resolver"),
        pytest.param(["no address"], "no address", id="not an address"),
        pytest.param([], "no address", id="none"),
    ],
)
async def test_names_without_an_address(outcome: Any, why: str) -> None:
    async def resolve(host: str) -> list[str]:
        if isinstance(outcome, Exception):
            raise outcome
        return list(outcome)

    with pytest.raises(DialFailed, match=why) as caught:
        await GuardedDialer(AddressRules(), resolve=resolve, connect=Line().connect).connect(Echo, "a.test", 443)
    assert (caught.value.reason, caught.value.host, caught.value.port) == ("resolve", "a.test", 443)
    assert isinstance(caught.value, GatekitError)


async def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(DialFailed) as caught:
            await GuardedDialer(AddressRules.trusted()).connect(Echo, "127.0.0.1", port)
    assert caught.value.reason == "connect"
    assert str(caught.value).startswith(f"127.0.0.1 port {port}: 127.0.0.1: ")


async def test_a_peer_that_breaks_off_the_handshake(net: Any) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.transport.abort(), "127.0.0.1", 0)
    try:
        with pytest.raises(DialFailed) as caught:
            await net.dialer().connect(Echo, "a.test", server.sockets[0].getsockname()[1], tls=net.trust())
    finally:
        server.close()
    assert caught.value.reason == "connect"


@pytest.mark.parametrize("silent", ["resolver", "address"])
async def test_connect_timeout(silent: str) -> None:
    line = Line(**{"8_8_8_8": asyncio.Event()})

    async def resolve(host: str) -> list[str]:
        if silent == "resolver":
            await asyncio.Event().wait()
        return ["8.8.8.8"]

    dialer = GuardedDialer(AddressRules(), resolve=resolve, connect=line.connect, connect_timeout=0.01)
    with pytest.raises(DialFailed) as caught:
        await dialer.connect(Echo, "a.test", 443)
    assert caught.value.reason == "timeout"
    await turn()
    assert line.cancelled == ([] if silent == "resolver" else ["8.8.8.8"])


async def test_the_system_resolver() -> None:
    assert "127.0.0.1" in await system_resolve("localhost")
    await asyncio.get_running_loop().shutdown_default_executor()


# -- happy eyeballs


def eyeballs(line: Line, *addresses: str, delay: float = NEVER) -> GuardedDialer:
    return GuardedDialer(AddressRules(), resolve=answers(*addresses), connect=line.connect, attempt_delay=delay)


async def test_an_address_that_never_answers_is_joined_by_the_next() -> None:
    line = Line(**{"8_8_8_8": asyncio.Event(), "1_1_1_1": None})
    _, protocol = await eyeballs(line, "8.8.8.8", "1.1.1.1", "9.9.9.9", delay=0).connect(Echo, "a.test", 443)
    assert (line.tried[:2], line.cancelled) == (["8.8.8.8", "1.1.1.1"], ["8.8.8.8"])
    assert protocol.transport.get_extra_info("socket").fileno() == line.given["1.1.1.1"].fileno()
    await hang_up(protocol)
    line.close()


async def test_an_address_that_fails_is_followed_at_once() -> None:
    line = Line(**{"1_1_1_1": None})
    _, protocol = await eyeballs(line, "8.8.8.8", "9.9.9.9", "1.1.1.1").connect(Echo, "a.test", 443)
    assert line.tried == ["8.8.8.8", "9.9.9.9", "1.1.1.1"]
    await hang_up(protocol)
    line.close()


async def test_an_address_that_answers_is_the_only_one() -> None:
    line = Line(**{"8_8_8_8": None, "1_1_1_1": None})
    _, protocol = await eyeballs(line, "8.8.8.8", "1.1.1.1").connect(Echo, "a.test", 443)
    assert line.tried == ["8.8.8.8"]
    await hang_up(protocol)
    line.close()


async def test_families_take_turns_and_every_failure_is_told() -> None:
    line = Line()
    dialer = eyeballs(line, "2606::1", "2606::2", "2606::1", "8.8.8.8", "::ffff:9.9.9.9")
    with pytest.raises(DialFailed) as caught:
        await dialer.connect(Echo, "a.test", 443)
    assert line.tried == ["2606::1", "8.8.8.8", "2606::2", "9.9.9.9"]
    assert caught.value.reason == "connect"
    assert str(caught.value) == "a.test port 443: " + "; ".join(f"{one}: refused" for one in line.tried)


async def test_the_next_address_joins_after_250_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    wait = asyncio.wait

    async def at_once(tasks: Any, *, timeout: float | None, return_when: str) -> Any:
        waits.append(timeout)
        return await wait(tasks, timeout=0 if timeout else None, return_when=return_when)

    monkeypatch.setattr(asyncio, "wait", at_once)
    line = Line(**{"8_8_8_8": asyncio.Event(), "1_1_1_1": asyncio.Event(), "9_9_9_9": None})
    dialer = GuardedDialer(AddressRules(), resolve=answers("8.8.8.8", "1.1.1.1", "9.9.9.9"), connect=line.connect)
    _, protocol = await dialer.connect(Echo, "a.test", 443)
    assert waits == [0.25, 0.25, None]
    await hang_up(protocol)
    line.close()


async def test_a_late_failure_leaves_the_others_running() -> None:
    gate = asyncio.Event()
    line = Line(**{"8_8_8_8": gate})
    dialling = asyncio.create_task(eyeballs(line, "8.8.8.8", "1.1.1.1", delay=0).connect(Echo, "a.test", 443))
    while len(line.tried) < 2:
        await asyncio.wait([dialling], timeout=0)
    await asyncio.wait([dialling], timeout=0)
    assert not dialling.done()
    gate.set()
    _, protocol = await dialling
    assert line.tried == ["8.8.8.8", "1.1.1.1"]
    await hang_up(protocol)
    line.close()


async def test_two_that_connect_in_the_same_instant_leave_one_socket() -> None:
    gate = asyncio.Event()
    line = Line(**{"8_8_8_8": gate, "1_1_1_1": gate})
    dialling = asyncio.create_task(eyeballs(line, "8.8.8.8", "1.1.1.1", delay=0).connect(Echo, "a.test", 443))
    while len(line.tried) < 2:
        await asyncio.wait([dialling], timeout=0)
    gate.set()
    _, protocol = await dialling
    taken = protocol.transport.get_extra_info("socket").fileno()
    assert sorted(sock.fileno() for sock in line.given.values()) == sorted([-1, taken])
    await hang_up(protocol)
    line.close()


async def test_whoever_is_cancelled_leaves_nothing_behind() -> None:
    line = Line(**{"8_8_8_8": asyncio.Event(), "1_1_1_1": asyncio.Event()})
    dialling = asyncio.create_task(eyeballs(line, "8.8.8.8", "1.1.1.1", delay=0).connect(Echo, "a.test", 443))
    while len(line.tried) < 2:
        await asyncio.wait([dialling], timeout=0)
    dialling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialling
    assert sorted(line.cancelled) == ["1.1.1.1", "8.8.8.8"]


async def test_cancelled_in_the_instant_of_the_connection() -> None:
    gate = asyncio.Event()
    line = Line(**{"8_8_8_8": gate})
    dialling = asyncio.create_task(eyeballs(line, "8.8.8.8").connect(Echo, "a.test", 443))
    while not line.tried:
        await asyncio.wait([dialling], timeout=0)
    gate.set()
    while not line.given:
        await asyncio.wait([dialling], timeout=0)
    dialling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialling
    assert line.given["8.8.8.8"].fileno() == -1
    line.close()


async def test_a_broken_connect_function_is_not_hidden() -> None:
    line = Line(**{"8_8_8_8": KeyError("a mistake")})
    with pytest.raises(KeyError, match="a mistake"):
        await eyeballs(line, "8.8.8.8", "1.1.1.1").connect(Echo, "a.test", 443)


@given(st.lists(st.ip_addresses(), min_size=1, unique=True))
def test_interleaving_loses_nothing_and_keeps_the_order_within_a_family(addresses: list[Address]) -> None:
    mixed = interleave(addresses)
    assert mixed[0] == addresses[0]
    for version in (4, 6):
        assert [one for one in mixed if one.version == version] == [one for one in addresses if one.version == version]
    pairs = min(sum(one.version == version for one in addresses) for version in (4, 6))
    turns = [one.version for one in mixed[: 2 * pairs]]
    assert all(first != second for first, second in pairwise(turns))


# -- TLS


async def test_tls_asks_for_the_name_and_checks_it(net: Any) -> None:
    site = await net.serve(net.answering((200, {})), certificate="idp.test")
    transport, protocol = await net.dialer().connect(Echo, "IDP.test", site.port, tls=net.trust())
    assert site.names == ["idp.test"]
    assert transport.get_extra_info("peername") == ("127.0.0.1", site.port)
    assert transport.get_extra_info("ssl_object") is not None
    await hang_up(protocol)


@pytest.mark.parametrize(
    ("host", "certificate", "trusted", "why"),
    [
        pytest.param("other.test", "idp.test", True, "Hostname mismatch", id="another name"),
        pytest.param("idp.test", "127.0.0.1", True, "Hostname mismatch", id="the address instead of the name"),
        pytest.param("127.0.0.1", "idp.test", True, "IP address mismatch", id="the name instead of the address"),
        pytest.param("idp.test", "idp.test", False, "self-signed|unable to get local issuer", id="a stranger's"),
    ],
)
async def test_tls_that_cannot_be_trusted(net: Any, host: str, certificate: str, trusted: bool, why: str) -> None:
    site = await net.serve(net.answering((200, {})), certificate=certificate)
    tls = net.trust() if trusted else ssl.create_default_context()
    with pytest.raises(DialFailed, match=why) as caught:
        await net.dialer().connect(Echo, host, site.port, tls=tls)
    assert caught.value.reason == "tls"
    await net.settle()
    assert site.asked == []


async def test_tls_with_an_address(net: Any) -> None:
    site = await net.serve(net.answering((200, {})), certificate="127.0.0.1")
    _, protocol = await net.dialer().connect(Echo, "127.0.0.1", site.port, tls=net.trust())
    assert site.names == [None]
    await hang_up(protocol)


async def test_a_peer_that_never_shakes_hands_is_a_timeout(net: Any) -> None:
    site = await net.serve(net.answering((200, {})))
    with pytest.raises(DialFailed) as caught:
        await net.dialer(connect_timeout=0.05).connect(Echo, "a.test", site.port, tls=net.trust())
    assert caught.value.reason == "timeout"
    await net.until(lambda: site.connections == site.closed)
