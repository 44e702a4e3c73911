"""SE9 for what the gateway fetches itself: redirects, cookies, caps, deadlines, TLS."""

from __future__ import annotations

import asyncio
import gc
import gzip
import inspect
import ssl
import warnings
from pathlib import Path
from typing import Any

import pytest

from gatekit.clients.addresses import AddressRules, TargetRefused
from gatekit.clients.fetch import FetchRefused, HttpFetch
from gatekit.core.ports import PUBLIC, Fetch, Fetched, Reach
from gatekit.errors import StoreUnavailable, StoreUnreached

OK = (200, {"Content-Type": "application/json"}, b"{}")


def is_a_fetch(fetch: HttpFetch) -> Fetch:
    """For the type checker: the port is implemented as core declares it."""
    return fetch


def test_it_has_the_ports_signature() -> None:
    declared, ours = inspect.signature(Fetch.__call__), inspect.signature(HttpFetch.__call__)
    assert declared == ours


# -- what goes out and what comes back


async def test_a_call_and_its_answer(net: Any) -> None:
    site = await net.serve(net.answering((200, {"X-A": "1", "X-a": "2", "Content-Type": "text/plain"}, b"body")))
    fetched = await net.fetch()(
        "GET", f"http://a.test:{site.port}/keys?x=%20", headers=[("Accept", "application/json")]
    )
    assert fetched == Fetched(200, {"x-a": "2", "content-type": "text/plain", "content-length": "4"}, b"body")
    (asked,) = site.asked
    assert (asked.method, asked.target) == ("GET", "/keys?x=%20")
    assert dict(asked.raw) == {
        "host": f"a.test:{site.port}", "accept-encoding": "identity", "user-agent": "gatekit", "Accept": "application/json",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("POST", b"token=x", "7"), ("POST", None, "0"), ("POST", b"", "0"), ("PUT", None, "0"), ("GET", None, None)],
)
async def test_bodies_are_framed_by_their_length(net: Any, method: str, body: bytes | None, length: str | None) -> None:
    site = await net.serve(net.answering(OK))
    await net.fetch()(method, f"http://a.test:{site.port}/", body=body)
    assert (site.asked[0].body, site.asked[0].headers.get("content-length")) == (body or b"", length)
    assert "transfer-encoding" not in site.asked[0].headers


async def test_what_frames_a_message_is_not_the_callers(net: Any) -> None:
    site = await net.serve(net.answering(OK))
    given = ["Host", "Content-Length", "Transfer-Encoding", "Connection", "Accept-Encoding", "TE", "Upgrade"]
    await net.fetch()(
        "GET", f"http://a.test:{site.port}/", headers=[*((name, "x") for name in given), ("User-Agent", "mine")]
    )
    assert dict(site.asked[0].raw) == {
        "host": f"a.test:{site.port}", "accept-encoding": "identity", "User-Agent": "mine",
    }  # fmt: skip


@pytest.mark.parametrize("status", [200, 204, 304, 400, 401, 404, 429, 500, 503])
async def test_any_status_is_an_answer(net: Any, status: int) -> None:
    raw = b"HTTP/1.1 %d X\r\n\r\n" % status if status in (204, 304) else None
    site = await net.serve(net.answering(raw or (status, {}, b"why")))
    fetched = await net.fetch()("GET", f"http://a.test:{site.port}/")
    assert (fetched.status, fetched.body) == (status, b"" if raw else b"why")


async def test_head_has_no_body(net: Any) -> None:
    site = await net.serve(net.answering((200, {"Content-Encoding": "identity"}, b"x" * 100)))
    fetched = await net.fetch(max_body=10)("HEAD", f"http://a.test:{site.port}/")
    assert (fetched.headers["content-length"], fetched.body) == ("100", b"")


async def test_interim_answers_are_passed_over(net: Any) -> None:
    site = await net.serve(net.answering(b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"))
    assert (await net.fetch()("GET", f"http://a.test:{site.port}/")).body == b"ok"


async def test_connections_are_kept_between_calls(net: Any) -> None:
    site = await net.serve(net.answering(OK))
    fetch = net.fetch()
    for _ in range(3):
        await fetch("GET", f"http://a.test:{site.port}/")
    assert (site.connections, net.looked_up) == (1, ["a.test"])
    await fetch.aclose()
    await net.until(lambda: site.closed == 1)
    await fetch("GET", f"http://a.test:{site.port}/")
    assert site.connections == 2


@pytest.mark.parametrize("late", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstale"], ids=["closed", "unasked"])
async def test_an_idle_connection_that_is_no_longer_quiet_is_not_used(net: Any, late: bytes) -> None:
    async def answer(asked: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfresh")
        writers.append(writer)

    writers: list[asyncio.StreamWriter] = []
    site = await net.serve(answer)
    fetch = net.fetch()
    assert (await fetch("GET", f"http://a.test:{site.port}/")).body == b"fresh"
    if late:
        writers[0].write(late)
    else:
        writers[0].close()
    await net.until(lambda: site.closed == 1 or bool(late))
    await net.settle(10)
    assert (await fetch("GET", f"http://a.test:{site.port}/")).body == b"fresh"
    assert site.connections == 2
    await net.until(lambda: site.closed == 1)


async def test_se9_two_calls_never_share_a_cookie(net: Any) -> None:
    site = await net.serve(net.answering((200, {"Set-Cookie": "session=of-the-first; Path=/"}, b"")))
    fetch = net.fetch()
    for _ in range(2):
        fetched = await fetch("GET", f"http://a.test:{site.port}/")
    assert fetched.headers["set-cookie"] == "session=of-the-first; Path=/"
    assert [asked.headers.get("cookie") for asked in site.asked] == [None, None]


async def test_se9_no_proxy_out_of_the_environment(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    site = await net.serve(net.answering(OK))
    await net.fetch()("GET", f"http://a.test:{site.port}/")
    assert net.dialled == [("127.0.0.1", site.port)]


# -- the guard


@pytest.mark.parametrize(
    ("url", "why"),
    [
        pytest.param("https://127.0.0.1/", "loopback", id="loopback"),
        pytest.param("https://[::ffff:169.254.169.254]/latest", "cloud metadata", id="metadata, mapped"),
        pytest.param("https://localhost/", "loopback", id="a name for loopback"),
        pytest.param("https://2130706433/", "four decimal numbers", id="decimal"),
        pytest.param("https://user@a.test/", "user information", id="user information"),
        pytest.param("http://a.test/", "scheme http is not allowed", id="http"),
        pytest.param("https://a.test:8443/", "port 8443", id="port"),
        pytest.param("ftp://a.test/", "neither http nor https", id="scheme"),
    ],
)
async def test_se9_what_is_refused_by_default(net: Any, url: str, why: str) -> None:
    fetch = net.fetch(guard=None)
    assert fetch.guard == AddressRules()
    with pytest.raises(FetchRefused, match=why) as caught:
        await fetch("GET", url)
    assert isinstance(caught.value, StoreUnavailable)
    assert isinstance(caught.value, TargetRefused)
    assert net.dialled == []


async def test_se9_a_refusal_names_host_and_range_for_operators(net: Any) -> None:
    net.records["idp.test"] = [["8.8.8.8", "10.0.0.7"]]
    with pytest.raises(FetchRefused) as caught:
        await net.fetch(guard=None)("GET", "https://idp.test/?token=secret")
    error = caught.value
    assert (error.host, str(error.address), error.range) == ("idp.test", "10.0.0.7", "10.0.0.0/8")
    assert "secret" not in str(error)
    assert net.dialled == []


async def test_trusted_networks_are_written_out(net: Any) -> None:
    site = await net.serve(net.answering(OK))
    fetch = net.fetch(guard=AddressRules.trusted("127.0.0.0/8"))
    assert (await fetch("GET", f"http://idp.test:{site.port}/")).status == 200
    net.records["other.test"] = [["10.0.0.1"]]
    with pytest.raises(FetchRefused, match="RFC 1918"):
        await fetch("GET", f"http://other.test:{site.port}/")


async def test_se9_a_name_that_rebinds_between_calls(net: Any) -> None:
    site = await net.serve(net.answering(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"))
    net.records["rebind.test"] = [["93.184.215.14"], ["127.0.0.1"]]
    fetch = net.fetch(guard=AddressRules(ports=None, schemes=["http"]), connect=net.pretend)
    url = f"http://rebind.test:{site.port}/"
    assert (await fetch("GET", url)).status == 200
    with pytest.raises(FetchRefused, match="loopback"):
        await fetch("GET", url)
    assert net.dialled == [("93.184.215.14", site.port)]


# -- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_redirects_are_followed(net: Any, method: str, status: int) -> None:
    site = await net.serve(net.answering((status, {"Location": "/there?x"}, b"moved"), OK))
    fetched = await net.fetch()(method, f"http://a.test:{site.port}/here", headers=[("Authorization", "Bearer t")])
    assert fetched.status == 200
    assert [(asked.method, asked.target) for asked in site.asked] == [(method, "/here"), (method, "/there?x")]
    assert site.asked[1].headers["authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("method", "status", "headers", "body"),
    [
        pytest.param("POST", 307, {"Location": "/x"}, b"secret", id="POST"),
        pytest.param("POST", 302, {"Location": "/x"}, None, id="POST without a body"),
        pytest.param("PUT", 302, {"Location": "/x"}, None, id="PUT"),
        pytest.param("GET", 302, {"Location": "/x"}, b"secret", id="GET with a body"),
        pytest.param("GET", 302, {}, None, id="no Location"),
        pytest.param("GET", 300, {"Location": "/x"}, None, id="300"),
        pytest.param("GET", 305, {"Location": "/x"}, None, id="305"),
        pytest.param("GET", 201, {"Location": "/x"}, None, id="201"),
    ],
)
async def test_what_is_not_followed_is_the_answer(
    net: Any, method: str, status: int, headers: dict[str, str], body: bytes | None
) -> None:
    site = await net.serve(net.answering((status, headers, b"kept"), OK))
    fetched = await net.fetch()(method, f"http://a.test:{site.port}/", body=body)
    assert (fetched.status, fetched.body, len(site.asked)) == (status, b"kept", 1)


async def test_three_redirects_and_no_more(net: Any) -> None:
    moved = (302, {"Location": "/again"})
    site = await net.serve(net.answering(moved, moved, moved, OK))
    assert (await net.fetch()("GET", f"http://a.test:{site.port}/")).status == 200
    circle = await net.serve(net.answering(moved))
    with pytest.raises(StoreUnavailable, match="more than 3 redirects"):
        await net.fetch()("GET", f"http://a.test:{circle.port}/")
    assert (len(site.asked), len(circle.asked)) == (4, 4)


@pytest.mark.parametrize(
    ("location", "why"),
    [
        pytest.param("https://127.0.0.1/", "loopback", id="loopback"),
        pytest.param("https://169.254.169.254/latest/meta-data/", "cloud metadata", id="metadata"),
        pytest.param("https://private.test/", "10.0.0.7 is in 10.0.0.0/8", id="a name for a private address"),
        pytest.param("https://mixed.test/", "10.0.0.7 is in 10.0.0.0/8", id="a name with one private address"),
        pytest.param("//[::1]/", "loopback", id="without a scheme"),
        pytest.param("https://0x7f.1/", "four decimal numbers", id="a spelling"),
        pytest.param("https://user:pass@public.test/", "user information", id="user information"),
        pytest.param("https://public.test:22/", "port 22", id="port"),
        pytest.param("http://public.test/", "from https to http|scheme http", id="http"),
        pytest.param("file:///etc/passwd", "scheme", id="file"),
        pytest.param("https://public.test\\@127.0.0.1/", "backslash", id="backslash"),
        pytest.param("https://p\u00fcblic.test/", "not ASCII", id="not ASCII"),
    ],
)
async def test_se9_every_redirect_is_judged_from_scratch(net: Any, location: str, why: str) -> None:
    site = await net.serve(net.answering((302, {"Location": location})), certificate="public.test")
    net.records = {
        "public.test": [["93.184.215.14"]], "private.test": [["10.0.0.7"]], "mixed.test": [["8.8.8.8", "10.0.0.7"]],
    }  # fmt: skip
    fetch = net.fetch(guard=AddressRules(ports=[443, site.port]), connect=net.pretend)
    with pytest.raises(FetchRefused, match=why):
        await fetch("GET", f"https://public.test:{site.port}/")
    assert net.dialled == [("93.184.215.14", site.port)]
    assert len(site.asked) == 1


async def test_se9_never_from_https_to_http_even_where_http_is_allowed(net: Any) -> None:
    plain = await net.serve(net.answering(OK))
    site = await net.serve(
        net.answering((302, {"Location": f"http://a.test:{plain.port}/"})), certificate="idp.test"
    )  # fmt: skip
    with pytest.raises(FetchRefused, match="from https to http"):
        await net.fetch()("GET", f"https://idp.test:{site.port}/")
    assert plain.asked == []


async def test_a_redirect_to_a_scheme_that_is_not_allowed(net: Any) -> None:
    there = await net.serve(net.answering(OK), certificate="a.test")
    site = await net.serve(net.answering((302, {"Location": f"https://a.test:{there.port}/"})))
    with pytest.raises(FetchRefused, match="scheme https is not allowed"):
        await net.fetch(guard=net.rules(schemes=["http"]))("GET", f"http://a.test:{site.port}/")
    assert there.connections == 0


@pytest.mark.parametrize("change", ["host", "port", "scheme"])
async def test_se9_credentials_stay_with_their_origin(net: Any, change: str) -> None:
    there = await net.serve(net.answering(OK), certificate="a.test" if change == "scheme" else None)
    here = await net.serve(net.answering((302, {"Location": "x"})))
    other = {
        "host": f"http://b.test:{here.port}/", "port": f"http://a.test:{there.port}/", "scheme": f"https://a.test:{there.port}/",
    }[change]  # fmt: skip
    here.answer = net.answering((302, {"Location": other}), OK)
    secret = [
        ("Authorization", "Bearer t"), ("authorization", "Basic t"), ("Cookie", "a=b"), ("X-Api-Key", "k"),
        ("Proxy-Authorization", "p"),
    ]  # fmt: skip
    await net.fetch()(
        "GET", f"http://a.test:{here.port}/", headers=[*secret, ("Accept", "text/plain"), ("User-Agent", "mine")]
    )
    last = (here if change == "host" else there).asked[-1]
    assert sorted(last.headers) == ["accept", "accept-encoding", "host", "user-agent"]
    assert (last.headers["accept"], last.headers["user-agent"]) == ("text/plain", "mine")


async def test_se9_credentials_do_not_come_back_with_a_redirect_back(net: Any) -> None:
    there = await net.serve(net.answering(OK))
    here = await net.serve(net.answering((302, {"Location": f"http://a.test:{there.port}/"}), OK))
    there.answer = net.answering((302, {"Location": f"http://a.test:{here.port}/back"}))
    await net.fetch()("GET", f"http://a.test:{here.port}/", headers=[("Authorization", "Bearer t")])
    assert [(asked.target, asked.headers.get("authorization")) for asked in here.asked] == [
        ("/", "Bearer t"),
        ("/back", None),
    ]


# -- caps


async def test_a_body_up_to_the_cap(net: Any) -> None:
    site = await net.serve(net.answering((200, {}, b"x" * 1000), (200, {}, b"x" * 1001)))
    fetch = net.fetch(max_body=1000)
    assert len((await fetch("GET", f"http://a.test:{site.port}/")).body) == 1000
    with pytest.raises(StoreUnavailable, match="longer than 1000 bytes"):
        await fetch("GET", f"http://a.test:{site.port}/")
    await net.until(lambda: site.closed == 1)


async def test_the_cap_is_1_mib_by_default(net: Any) -> None:
    site = await net.serve(net.answering((200, {}, b"x" * 1_048_576), (200, {}, b"x" * 1_048_577)))
    fetch = net.fetch()
    assert len((await fetch("GET", f"http://a.test:{site.port}/")).body) == 1_048_576
    with pytest.raises(StoreUnavailable, match="longer than 1048576 bytes"):
        await fetch("GET", f"http://a.test:{site.port}/")


@pytest.mark.parametrize(
    "framing", [b"transfer-encoding: chunked\r\n", b"connection: close\r\n"], ids=["chunked", "close"]
)
async def test_a_body_without_an_end(net: Any, framing: bytes) -> None:
    async def answer(asked: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        while True:
            writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await writer.drain()

    site = await net.serve(answer)
    with pytest.raises(StoreUnavailable, match="longer than 1048576 bytes"):
        await net.fetch()("GET", f"http://a.test:{site.port}/")
    await net.until(lambda: site.closed == 1)


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "GZIP"])
async def test_a_compressed_answer_is_not_taken(net: Any, coding: str) -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    site = await net.serve(net.answering((200, {"Content-Encoding": coding}, bomb)))
    with pytest.raises(StoreUnavailable, match="compressed"):
        await net.fetch()("GET", f"http://a.test:{site.port}/")
    assert site.asked[0].headers["accept-encoding"] == "identity"


# -- failures


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nshort", id="truncated"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", id="truncated chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", id="no chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-le", id="half a head"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx", id="two lengths"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", id="101"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="another protocol"),
        pytest.param(b"", id="nothing"),
    ],
)
async def test_broken_answers(net: Any, answer: bytes) -> None:
    async def broken(asked: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    site = await net.serve(broken)
    with pytest.raises(StoreUnavailable, match=rf"^http://a\.test:{site.port}: "):
        await net.fetch()("GET", f"http://a.test:{site.port}/secret?token=x")


async def test_a_head_without_an_end(net: Any) -> None:
    async def answer(asked: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x-a: " + b"x" * 1000 + b"\r\n")
            await writer.drain()

    site = await net.serve(answer)
    with pytest.raises(StoreUnavailable):
        await net.fetch()("GET", f"http://a.test:{site.port}/")
    await net.until(lambda: site.closed == 1)


async def test_a_reset_connection(net: Any) -> None:
    async def answer(asked: Any, writer: asyncio.StreamWriter) -> None:
        import socket
        import struct

        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    site = await net.serve(answer)
    with pytest.raises(StoreUnavailable):
        await net.fetch()("GET", f"http://a.test:{site.port}/")


async def test_a_name_without_an_address(net: Any) -> None:
    net.records["a.test"] = [[]]
    with pytest.raises(StoreUnavailable, match="no address") as caught:
        await net.fetch()("GET", "https://a.test/")
    assert not isinstance(caught.value, FetchRefused)


@pytest.mark.parametrize(
    ("method", "header"),
    [
        ("GET", ("X-A", "a\r\nX-B: b")), ("GET", ("X-A", "a\x00")), ("GET", ("X A", "a")), ("GET", ("X-A", "\u4f60")),
        ("GET", ("\u00e4", "a")), ("G T", ("X-A", "a")), ("G\u00c4T", ("X-A", "a")), ("GET\r\n", ("X-A", "a")),
    ],
    ids=ascii,
)  # fmt: skip
async def test_requests_that_cannot_be_sent(net: Any, method: str, header: tuple[str, str]) -> None:
    site = await net.serve(net.answering(OK))
    with pytest.raises(StoreUnavailable):
        await net.fetch()(method, f"http://a.test:{site.port}/", headers=[header])
    assert site.asked == []


async def test_a_peer_that_answers_early_and_takes_no_more(net: Any) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            writer.write_eof()
            await reader.read()
        finally:
            writer.transport.abort()
            gone.set()

    gone = asyncio.Event()
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    fetched = await net.fetch()("POST", f"http://a.test:{port}/", body=b"x" * 8_000_000)
    assert fetched.status == 413
    server.close()
    await gone.wait()


async def test_large_bodies_wait_for_the_peer(net: Any) -> None:
    site = await net.serve(net.answering(OK))
    fetched = await net.fetch()("POST", f"http://a.test:{site.port}/", body=b"x" * 8_000_000)
    assert (fetched.status, len(site.asked[0].body)) == (200, 8_000_000)


# -- deadlines


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="no head"),
        pytest.param([b"HTTP/1.1 200 OK\r\n"], id="half a head"),
        pytest.param([b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"], id="half a body"),
        pytest.param([b"HTTP/1.1 103 Hints\r\n\r\n"] * 3, id="interim answers"),
    ],
)
async def test_one_deadline_for_the_whole_call(net: Any, parts: list[bytes]) -> None:
    async def answer(asked: Any, writer: asyncio.StreamWriter) -> None:
        if len(site.asked) > 1:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            return
        writer.writelines(parts)
        await asyncio.Event().wait()

    site = await net.serve(answer)
    fetch = net.fetch()
    with pytest.raises(StoreUnavailable, match=r"no answer within 0\.05 s"):
        await fetch("GET", f"http://a.test:{site.port}/", timeout=0.05)
    # The connection is not used again, and its place in the pool is free.
    assert (await fetch("GET", f"http://a.test:{site.port}/")).status == 200
    assert site.connections == 2


async def test_the_deadline_covers_the_look_up(net: Any) -> None:
    async def resolve(name: str) -> list[str]:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(StoreUnavailable, match="no answer within"):
        await net.fetch(resolve=resolve)("GET", "https://a.test/", timeout=0.01)


async def test_the_deadline_covers_the_handshake(net: Any) -> None:
    site = await net.serve(net.answering(OK))
    with pytest.raises(StoreUnavailable, match="no answer within"):
        await net.fetch()("GET", f"https://a.test:{site.port}/", timeout=0.05)
    await net.until(lambda: site.connections == site.closed)


async def test_many_deadlines_leave_the_pool_whole(net: Any) -> None:
    async def answer(asked: Any, writer: asyncio.StreamWriter) -> None:
        if asked.target == "/":
            await asyncio.Event().wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    site = await net.serve(answer)
    fetch = net.fetch()
    calls = [fetch("GET", f"http://a.test:{site.port}/", timeout=0.05) for _ in range(80)]
    assert {type(one) for one in await asyncio.gather(*calls, return_exceptions=True)} == {StoreUnavailable}
    assert (await fetch("GET", f"http://a.test:{site.port}/quick")).status == 200


async def test_a_cancelled_call_leaves_nothing_behind(net: Any) -> None:
    async def answer(asked: Any, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    site = await net.serve(answer)
    call = asyncio.create_task(net.fetch()("GET", f"http://a.test:{site.port}/"))
    await net.until(lambda: len(site.asked) == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    site.tasks.copy().pop().cancel()
    await net.until(lambda: site.closed == 1)


# -- TLS


async def test_tls_by_name(net: Any) -> None:
    site = await net.serve(net.answering(OK), certificate="idp.test")
    fetch = net.fetch()
    for _ in range(2):
        assert (await fetch("GET", f"https://IDP.test:{site.port}/")).body == b"{}"
    assert (site.names, site.connections) == (["idp.test"], 1)
    assert site.asked[0].headers["host"] == f"idp.test:{site.port}"


@pytest.mark.parametrize(
    ("host", "certificate", "own", "why"),
    [
        pytest.param("other.test", "idp.test", True, "Hostname mismatch", id="another name"),
        pytest.param("idp.test", "127.0.0.1", True, "Hostname mismatch", id="the address instead of the name"),
        pytest.param("idp.test", "idp.test", False, "self-signed|unable to get local issuer", id="a stranger's"),
    ],
)
async def test_tls_that_cannot_be_trusted(net: Any, host: str, certificate: str, own: bool, why: str) -> None:
    site = await net.serve(net.answering(OK), certificate=certificate)
    fetch = net.fetch() if own else net.fetch(tls=None)
    with pytest.raises(StoreUnavailable, match=why):
        await fetch("GET", f"https://{host}:{site.port}/", headers=[("Authorization", "secret")])
    await net.settle()
    assert site.asked == []


async def test_tls_that_is_lost_as_it_begins(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`loop.start_tls` may return None, for a connection that was lost in the instant of its handshake."""

    async def start_tls(transport: asyncio.Transport, *given: Any, **settings: Any) -> None:
        transport.abort()

    monkeypatch.setattr(asyncio.get_running_loop(), "start_tls", start_tls)
    site = await net.serve(net.answering(OK))
    with pytest.raises(StoreUnavailable, match="closed by the peer during the TLS handshake"):
        await net.fetch()("GET", f"https://a.test:{site.port}/")


def test_the_default_trust_store_is_the_systems(monkeypatch: pytest.MonkeyPatch, make_net: Any) -> None:
    made: list[ssl.SSLContext] = []
    create = ssl.create_default_context

    def remember() -> ssl.SSLContext:
        made.append(create())
        return made[-1]

    async def main() -> None:
        net = make_net()
        site = await net.serve(net.answering(OK))
        fetch = net.fetch(tls=None)
        monkeypatch.setattr(ssl, "create_default_context", remember)
        await fetch("GET", f"http://a.test:{site.port}/")
        await fetch.aclose()
        await fetch("GET", f"http://a.test:{site.port}/")
        await net.close()

    asyncio.run(main())
    (context,) = made
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


# -- loops


def test_one_fetch_for_several_loops(make_net: Any) -> None:
    async def main(fetch: HttpFetch | None, *, close: bool) -> HttpFetch:
        net = make_net()
        site = await net.serve(net.answering(OK))
        fetch = fetch or HttpFetch(guard=net.rules(), resolve=net.resolve)
        for _ in range(2):
            assert (await fetch("GET", f"http://a.test:{site.port}/")).status == 200
        assert site.connections == 1
        if close:
            await fetch.aclose()
        await net.close()
        return fetch

    fetch = asyncio.run(main(None, close=True))
    assert len(fetch._links) == 0
    asyncio.run(main(fetch, close=False))
    with warnings.catch_warnings():
        # That loop was closed without a word; asyncio says so when its transports are collected.
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.run(main(fetch, close=True))
        gc.collect()
    assert len(fetch._links) == 0


def test_loops_that_live_side_by_side_have_connections_of_their_own(make_net: Any) -> None:
    with asyncio.Runner() as one, asyncio.Runner() as other:
        nets = [make_net(), make_net()]
        sites = [runner.run(net.serve(net.answering(OK))) for runner, net in zip((one, other), nets, strict=True)]
        fetch = HttpFetch(guard=nets[0].rules(), resolve=nets[0].resolve)
        for _ in range(3):
            for runner, site in zip((one, other), sites, strict=True):
                runner.run(fetch("GET", f"http://a.test:{site.port}/"))
        assert [site.connections for site in sites] == [1, 1]
        assert len(fetch._links) == 2
        one.run(fetch.aclose())
        assert len(fetch._links) == 1
        other.run(fetch.aclose())
        for runner, net in zip((one, other), nets, strict=True):
            runner.run(net.close())


async def test_what_is_closed_in_the_middle_of_a_call_is_not_kept(net: Any) -> None:
    async def answer(asked: Any, writer: asyncio.StreamWriter) -> None:
        await fetch.aclose()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    site = await net.serve(answer)
    fetch = net.fetch()
    assert (await fetch("GET", f"http://a.test:{site.port}/")).body == b"ok"
    await net.until(lambda: site.closed == 1)


async def test_at_most_32_calls_at_once_and_at_most_32_connections_idle(net: Any) -> None:
    async def answer(asked: Any, writer: asyncio.StreamWriter) -> None:
        waiting.append(asked)
        if len(waiting) == 32:
            await net.settle(20)
            assert len(waiting) == 32, "more than 32 were let through"
            gate.set()
        await gate.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    waiting: list[Any] = []
    gate = asyncio.Event()
    first, second = await net.serve(answer), await net.serve(net.answering(OK))
    fetch = net.fetch()
    calls = [fetch("GET", f"http://a.test:{first.port}/") for _ in range(50)]
    assert {fetched.status for fetched in await asyncio.gather(*calls)} == {200}
    assert (len(waiting), first.connections) == (50, 32)
    assert (await fetch("GET", f"http://a.test:{second.port}/")).status == 200
    await net.until(lambda: second.closed == 1)
    assert first.closed == 0


async def test_closing_what_was_never_used() -> None:
    await HttpFetch().aclose()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_on_uvloop(make_net: Any, tls: bool) -> None:
    """Its transports are classes of their own: connect, send, read, keep, refuse, close."""
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        net = make_net()
        site = await net.serve(net.answering(OK), certificate="a.test" if tls else None)
        fetch = net.fetch()
        url = f"{'https' if tls else 'http'}://a.test:{site.port}/"
        assert (await fetch("POST", url, body=b"x" * 2_000_000)).status == 200
        assert (await fetch("GET", url)).body == b"{}"
        assert site.connections == 1
        with pytest.raises(StoreUnavailable):
            await fetch("GET", url.replace("a.test", "b.test") if tls else url, timeout=5.0 if tls else 0.0)
        await net.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_on_uvloop_a_long_answer_that_ends_with_the_connection(make_net: Any) -> None:
    """uvloop refuses to resume a transport that is closed."""
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async def answer(asked: Any, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b"x" * 1_000_000)
            writer.close()

        net = make_net()
        site = await net.serve(answer)
        assert len((await net.fetch()("GET", f"http://a.test:{site.port}/")).body) == 1_000_000
        await net.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def test_a_reach_opens_what_it_names_and_for_nobody_else(net: Any) -> None:
    site = await net.serve(net.answering(OK, OK, OK))
    fetch, url = net.fetch(guard=AddressRules()), f"http://a.test:{site.port}/"
    with pytest.raises(FetchRefused):
        await fetch("GET", url)
    assert (await fetch("GET", url, reach=Reach(("127.0.0.0/8",)))).status == 200
    assert (await fetch("GET", url, reach=Reach(("127.0.0.0/8",)))).status == 200
    with pytest.raises(FetchRefused):
        await fetch("GET", url, reach=Reach(("10.0.0.0/8",)))
    with pytest.raises(FetchRefused):
        await fetch("GET", url, reach=PUBLIC)
    await fetch.aclose()


async def test_a_reach_without_networks_changes_nothing_but_whom_it_believes(net: Any) -> None:
    fetch = net.fetch(guard=AddressRules())
    with pytest.raises(FetchRefused):
        await fetch("GET", "http://127.0.0.1:1/", reach=Reach(ca=ssl.get_default_verify_paths().openssl_cafile))


async def test_a_file_of_authorities_that_is_none_makes_the_store_unavailable(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pem", tmp_path):
        with pytest.raises(StoreUnavailable, match="no file of certificates"):
            await HttpFetch()("GET", "https://id.example/keys", reach=Reach(ca=str(path)))


async def test_what_was_never_sent_is_told_from_what_may_have_been(net: Any) -> None:
    with pytest.raises(StoreUnreached) as refused:
        await net.fetch()("GET", "http://a.test:1/")
    assert refused.value.unsent
    cut = await net.serve(net.answering(b""))
    with pytest.raises(StoreUnavailable) as lost:
        await net.fetch()("GET", f"http://a.test:{cut.port}/")
    assert not lost.value.unsent


async def test_a_redirect_is_not_followed_where_there_is_a_body_be_it_an_empty_one(net: Any) -> None:
    site = await net.serve(net.answering((302, {"Location": "/elsewhere"}, b"")))
    assert (await net.fetch()("GET", f"http://a.test:{site.port}/", body=b"")).status == 302
    assert len(site.asked) == 1
