"""The one way to Redis and Valkey: bounded, honest about what went wrong, silent about secrets."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
import trustme
from tests.clients.redis_scene import Front
from tests.servers.valkey import Valkey, valkey_server

from gatekit.clients.redis import RedisRefused, RedisServer, Script, redis_server
from gatekit.errors import StoreUnavailable
from gatekit.testing import FaultProxy, Reset

SECRET = "hunter2/é:@"
USER = f"gate:{quote(SECRET, safe='')}"


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = valkey_server(tmp_path_factory.mktemp("valkey"))
    server.ask("ACL", "SETUSER", "gate", "on", f">{SECRET}", "~*", "&*", "+@all", "-flushall")
    yield server
    server.stop()


@pytest_asyncio.fixture
async def server(valkey: Valkey) -> AsyncIterator[RedisServer]:
    server = RedisServer(valkey.url)
    yield server
    await server.aclose()


# -- the URL


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host", "redis://host:6379/0"),
        ("redis://host:7000/12", "redis://host:7000/12"),
        ("redis://HOST/", "redis://host:6379/0"),
        ("REDIS://host", "redis://host:6379/0"),
        ("redis://u:hunter2@host/1", "redis://host:6379/1"),
        ("redis://:hunter2@[::1]:7000", "redis://[::1]:7000/0"),
        ("rediss://host", "rediss://host:6379/0"),
        ("rediss://host?ca=/etc/ca.pem&cert=/c&key=/hunter2", "rediss://host:6379/0"),
        ("redis://host?timeout=0.25", "redis://host:6379/0"),
    ],
)
def test_a_url_and_what_is_shown_of_it(url: str, shown: str) -> None:
    server = RedisServer(url)
    assert server.shown == shown
    assert repr(server) == f"<RedisServer {shown}>"
    assert server.database == int(shown.rpartition("/")[2])


@pytest.mark.parametrize(
    "url",
    [
        "", "redis:", "redis://", "redis:///0", "http://host", "redis://host/x", "redis://host/-1", "redis://host/1/2",
        "redis://host:port", "redis://host:70000", "redis://[::1", "redis://host/0#a", "redis://host?db=1",
        "redis://host?socket_timeout=9", "redis://host?ca=/etc/ca.pem", "redis://host?timeout=", "redis://host?timeout=0.004",
        "redis://host?timeout=6", "redis://host?timeout=1e-1", "redis://host?timeout=nan", "redis://host?timeout=1&timeout=2",
        "redis://host?x", "redis://user:hunter2@", "redis://user:hunter2@host/x", "redis://host?password=hunter2",
        "redis://host?hunter2", "redis://host:hunter2",
    ],
)  # fmt: skip
def test_a_url_that_is_not_like_that_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|timeout") as caught:
        RedisServer(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "url", ["redis://h:1/0", "rediss://h:1/0", "redis+cluster://h:1,i:2", "redis+sentinel://h:1,i:2/m?db=0"]
)
def test_any_of_the_schemes_opens_a_server_without_io(url: str) -> None:
    server = redis_server(url, options=("word",), timeout=0.025, connections=2)
    assert server.shown == url
    assert server.timeout == 0.025


def test_options_of_the_caller_are_handed_on() -> None:
    assert RedisServer("redis://host?word=a%20b", options=("word",)).options == {"word": "a b"}
    with pytest.raises(ValueError, match="may stand, once each: word, timeout"):
        RedisServer("redis://host?other=1", options=("word",))


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ImportError, match=r"install gatekit-asgi\[redis\]"):
        RedisServer("redis://host")


# -- questions

ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.mark.servers
async def test_a_question_has_an_answer(server: RedisServer) -> None:
    assert await server.ask("SET", "a", b"\xff") is not None
    assert await server.ask("GET", "a") == b"\xff"
    assert await server.ask("GET", "nothing there") is None


@pytest.mark.servers
async def test_a_script_runs_whether_or_not_the_server_knows_it(server: RedisServer, valkey: Valkey) -> None:
    valkey.ask("SCRIPT", "FLUSH")
    assert await server.run(ADD, ["counter"], [2]) == 2
    assert valkey.ask("SCRIPT", "EXISTS", ADD.digest) == b"*1"
    assert await server.run(ADD, ["counter"], [3]) == 5


@pytest.mark.servers
async def test_a_user_with_a_password_may_do_what_he_may(valkey: Valkey) -> None:
    server = RedisServer(valkey.url.replace("//", f"//{USER}@"))
    assert await server.ask("PING")
    assert await server.ask("ACL", "WHOAMI") == b"gate"
    with pytest.raises(RedisRefused, match=r"NoPermissionError|NOPERM"):
        await server.ask("FLUSHALL")
    await server.aclose()


@pytest.mark.servers
@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("hunter2",), "ResponseError|ERR"),
        (("EVAL", "return redis.error_reply('MISCONF hunter2')", 0), "MISCONF"),
        (("EVAL", "return redis.error_reply('hunter2')", 0), "ResponseError|ERR"),
        (("SELECT", "hunter2"), "ResponseError|ERR"),
        (("EVAL", "hunter2(", 0), "ResponseError|ERR"),
    ],
)
async def test_what_the_server_says_in_an_error_is_not_repeated(
    server: RedisServer, command: tuple[Any, ...], told: str
) -> None:
    with pytest.raises(RedisRefused, match=told) as caught:
        await server.ask(*command)
    assert "hunter2" not in str(caught.value)
    assert server.shown in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.servers
@pytest.mark.parametrize("user", [f"gate:wrong{SECRET[:3]}", "nobody:hunter2"], ids=["password", "user"])
async def test_credentials_that_are_not_taken_are_told_and_not_shown(valkey: Valkey, user: str) -> None:
    server = RedisServer(valkey.url.replace("//", f"//{user}@"))
    with pytest.raises(StoreUnavailable, match="does not take these credentials") as caught:
        await server.ask("PING")
    assert "hun" not in str(caught.value)
    await server.aclose()


async def test_nobody_there(net: Any) -> None:
    site = await net.serve(net.answering(b""))
    port = site.port
    await net.close()
    server = RedisServer(f"redis://127.0.0.1:{port}")
    with pytest.raises(StoreUnavailable, match=r"redis://127.0.0.1:\d+/0 cannot be reached: ") as caught:
        await server.ask("PING")
    assert not isinstance(caught.value, RedisRefused)
    await server.aclose()


async def test_a_name_that_nobody_has() -> None:
    server = RedisServer("redis://nowhere.invalid", timeout=5.0)
    with pytest.raises(StoreUnavailable, match=r"redis://nowhere.invalid:6379/0 "):
        await server.ask("PING")
    await server.aclose()


@pytest.mark.servers
async def test_a_server_that_hangs_is_waited_for_as_long_as_was_said(tmp_path: Path) -> None:
    hanging = valkey_server(tmp_path)
    server = RedisServer(f"{hanging.url}?timeout=0.2")
    try:
        assert await server.ask("PING")
        hanging.pause()
        for bound in (None, 0.3):
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable, match=f"did not answer within {bound or 0.2} s"):
                await server.ask("PING", timeout=bound)
            assert time.monotonic() - begun < 2.0
        with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.2 s"):
            await server.run(ADD, ["a"], [1])
        with pytest.raises(StoreUnavailable, match=r"did not answer within 1 s"):
            async with server.listening("news"):
                raise AssertionError("not reached")
        hanging.resume()
        assert await server.ask("PING", timeout=5)
    finally:
        await server.aclose()
        hanging.stop()


@pytest.mark.servers
async def test_a_connection_that_breaks_is_told_and_another_takes_its_place(valkey: Valkey) -> None:
    async with FaultProxy(f"127.0.0.1:{valkey.port}", Reset("response", after=0), ()) as proxy:
        server = RedisServer(f"redis://127.0.0.1:{proxy.port}")
        with pytest.raises(StoreUnavailable, match=r"cannot be reached|broke the connection off"):
            await server.ask("PING")
        assert await server.ask("PING")
        await server.aclose()


async def test_something_else_listens_there(net: Any) -> None:
    site = await net.serve(net.answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    server = RedisServer(f"redis://127.0.0.1:{site.port}", timeout=0.3)
    with pytest.raises(StoreUnavailable):
        await server.ask("PING")
    await server.aclose()


@pytest.mark.servers
async def test_more_questions_than_connections_wait_their_turn(valkey: Valkey) -> None:
    server = RedisServer(valkey.url, connections=2, timeout=5.0)
    found = await asyncio.gather(*(server.ask("INCR", "turns") for _ in range(100)))
    assert sorted(found) == list(range(1, 101))
    assert int(await server.ask("CLIENT", "LIST", "TYPE", "normal") is not None)
    await server.aclose()


@pytest.mark.servers
async def test_whoever_gives_up_harms_nobody(server: RedisServer) -> None:
    asking = [asyncio.create_task(server.ask("BLPOP", "nothing", 5)) for _ in range(5)]
    assert await server.ask("SET", "mine", "a")
    for one in asking:
        one.cancel()
    assert all(isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*asking, return_exceptions=True))
    for _ in range(20):
        assert await server.ask("GET", "mine") == b"a"


async def test_a_mistake_of_ours_is_not_taken_for_the_servers(server: RedisServer) -> None:
    with pytest.raises(Exception, match="Invalid input of type") as caught:
        await server.ask("SET", "a", object())
    assert not isinstance(caught.value, RedisRefused)


def test_every_loop_has_connections_of_its_own(valkey: Valkey) -> None:
    server = RedisServer(valkey.url)

    async def ask() -> bytes:
        with suppress(StoreUnavailable):
            await server.drop_idle()
        found = await server.ask("ECHO", "a")
        await server.drop_idle()
        await server.aclose()
        await server.aclose()
        return bytes(found)

    assert [asyncio.run(ask()) for _ in range(3)] == [b"a"] * 3


def test_what_a_closed_loop_left_is_forgotten(valkey: Valkey) -> None:
    server = RedisServer(valkey.url)

    async def ask(close: bool) -> None:
        await server.ask("PING")
        await server.drop_idle()
        if close:
            await server.aclose()

    asyncio.run(ask(close=False))
    assert len(server._clients) == 1
    asyncio.run(ask(close=True))
    assert len(server._clients) == 0


# -- a channel


@pytest.mark.servers
async def test_what_is_published_is_heard(server: RedisServer) -> None:
    async with server.listening("news") as listener:
        assert await server.ask("PUBLISH", "news", b"\xffa") == 1
        await server.ask("PUBLISH", "news", b"b")
        assert await listener.news(5) == b"\xffa"
        assert await listener.news(5) == b"b"
        assert await listener.news(0.01) is None
    assert await server.ask("PUBLISH", "news", b"c") == 0


@pytest.mark.servers
async def test_an_answer_to_a_ping_is_heard_and_is_no_news(server: RedisServer) -> None:
    async with server.listening("news") as listener:
        before = listener.heard
        assert before > 0
        await listener.ping()
        assert await listener.news(0.3) is None
        assert listener.heard > before


@pytest.mark.servers
async def test_a_channel_that_breaks_is_told(server: RedisServer, valkey: Valkey) -> None:
    async def listen() -> None:
        async with server.listening("news") as listener:
            valkey.ask("CLIENT", "KILL", "TYPE", "pubsub")
            while True:
                await listener.ping()
                await listener.news(5)

    with pytest.raises(StoreUnavailable, match=r"cannot be reached|broke the connection off"):
        await listen()
    async with server.listening("news") as listener:
        await server.ask("PUBLISH", "news", b"a")
        assert await listener.news(5) == b"a"


@pytest.mark.servers
async def test_a_channel_that_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = valkey_server(tmp_path)
    server = RedisServer(f"{hanging.url}?timeout=0.1")
    try:
        async with server.listening("news") as listener:
            never = asyncio.get_running_loop().create_future()
            monkeypatch.setattr(listener._pubsub, "ping", lambda: never)
            with pytest.raises(StoreUnavailable, match=r"within 0\.1 s"):
                await listener.ping()
    finally:
        await server.aclose()
        hanging.stop()


@pytest.mark.servers
async def test_a_long_message_that_comes_in_pieces_is_one(server: RedisServer) -> None:
    async with server.listening("news") as listener:
        text = bytes(range(256)) * 4000
        sending = asyncio.create_task(server.ask("PUBLISH", "news", text, timeout=5))
        found = None
        while found is None:
            found = await listener.news(0.001)
        assert found == text
        await sending


# -- TLS


@pytest_asyncio.fixture
async def front(valkey: Valkey) -> AsyncIterator[Front]:
    made = Front(valkey.port)
    yield made
    await made.close()


@pytest.fixture
def ca(front: Front, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    front.authority.cert_pem.write_to_path(path)
    return quote(str(path))


async def answer_of(url: str) -> bytes:
    server = RedisServer(url, timeout=5.0)
    try:
        return bytes(await server.ask("ECHO", "a"))
    finally:
        await server.aclose()


@pytest.mark.servers
async def test_tls_to_a_server_that_shows_a_certificate_of_a_known_authority(front: Front, ca: str) -> None:
    await front.start("127.0.0.1")
    assert await answer_of(f"rediss://127.0.0.1:{front.port}/0?ca={ca}") == b"a"


@pytest.mark.servers
@pytest.mark.parametrize("name", ["127.0.0.2", "elsewhere.example"])
async def test_a_certificate_for_another_name_is_not_taken(front: Front, ca: str, name: str) -> None:
    await front.start(name)
    with pytest.raises(StoreUnavailable):
        await answer_of(f"rediss://127.0.0.1:{front.port}/0?ca={ca}")


@pytest.mark.servers
async def test_an_authority_that_nobody_knows_is_not_taken(front: Front) -> None:
    await front.start("127.0.0.1")
    with pytest.raises(StoreUnavailable):
        await answer_of(f"rediss://127.0.0.1:{front.port}/0")


@pytest.mark.servers
async def test_a_server_that_asks_for_a_certificate_is_shown_one(front: Front, ca: str, tmp_path: Path) -> None:
    clients = trustme.CA()
    mine = clients.issue_cert("gateway")
    mine.private_key_pem.write_to_path(tmp_path / "key.pem")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    await front.start("127.0.0.1", clients)
    url = f"rediss://127.0.0.1:{front.port}/0?ca={ca}"
    shown = f"&cert={quote(str(tmp_path / 'cert.pem'))}&key={quote(str(tmp_path / 'key.pem'))}"
    assert await answer_of(url + shown) == b"a"
    with pytest.raises(StoreUnavailable):
        await answer_of(url)


@pytest.mark.servers
async def test_a_server_without_tls_is_not_spoken_to_in_the_clear(valkey: Valkey) -> None:
    with pytest.raises(StoreUnavailable):
        await answer_of(f"rediss://{USER}@127.0.0.1:{valkey.port}/0?timeout=0.5")
