"""API keys in Valkey: one question for each, bounded in time, and records that are JSON objects or nobody's."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from tests.servers.valkey import Valkey

from gatekit.errors import StoreUnavailable
from gatekit.gateway.runtime import LoopRuntime
from gatekit.stores import SystemStores
from gatekit.stores.api_keys_redis import MAX_RECORD
from gatekit.testing import test_ports

from .scene import until

pytestmark = pytest.mark.servers

RECORD = {"id": "reports", "hash": "v1:8q3k0v7m2d:x", "scopes": ["a"], "roles": [], "note": "é"}


def keys(url: str) -> Any:
    return SystemStores().api_keys(url, test_ports())


async def test_the_record_of_a_key(valkey: Valkey, redis_url: str, part: str) -> None:
    valkey.ask("SET", f"{part}:apikey:8q3k0v7m2d", json.dumps(RECORD))
    store = keys(redis_url)
    assert await store.find("8q3k0v7m2d") == RECORD
    assert await store.find("8q3k0v7m2e") is None
    await store.aclose()


async def test_the_word_before_it_is_gatekit_where_nothing_else_is_said(valkey: Valkey) -> None:
    valkey.ask("SET", "gatekit:apikey:8q3k0v7m2d", "{}")
    store = keys(valkey.url)
    assert await store.find("8q3k0v7m2d") == {}
    await store.aclose()


@pytest.mark.parametrize("prefix", ["", "*", "a b", "a:b", "../a", "x" * 65, "é", "a\r\nFLUSHALL"])
async def test_what_cannot_be_a_prefix_is_not_asked_about(prefix: str) -> None:
    assert await keys("redis://nowhere.invalid").find(prefix) is None


GARBAGE = [
    b"", b"x", b"[]", b"7", b"null", b'"a"', b"{", b"\xff", b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":{"b":1,"b":2}}',
    b'{"a":"' + b"x" * MAX_RECORD + b'"}', b"[" * 50_000, b'{"a":' + b"9" * 5000 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("text", GARBAGE, ids=lambda text: repr(text[:12]))
async def test_a_record_that_is_no_json_object_is_nobodys_and_told_once(
    valkey: Valkey, redis_url: str, part: str, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    valkey.ask("SET", f"{part}:apikey:bad", text)
    valkey.ask("SET", f"{part}:apikey:good", json.dumps(RECORD))
    store = keys(redis_url)
    assert await store.find("bad") is None
    assert await store.find("bad") is None
    assert await store.find("good") == RECORD
    assert store.status()["refused"] == 2
    assert len(caplog.records) == 1
    await store.aclose()


async def test_a_key_of_another_type_is_an_outage_and_not_a_missing_key(
    valkey: Valkey, redis_url: str, part: str
) -> None:
    valkey.ask("HSET", f"{part}:apikey:hash", "a", "b")
    store = keys(redis_url)
    with pytest.raises(StoreUnavailable):
        await store.find("hash")
    await store.aclose()


async def test_an_outage_is_told_within_the_time_a_request_may_wait(own_valkey: list[Valkey]) -> None:
    store = keys(f"{own_valkey[0].url}?timeout=0.1")
    assert await store.find("a") is None
    own_valkey[0].pause()
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"within 0\.1 s"):
        await store.find("a")
    assert time.monotonic() - begun < 1.0
    own_valkey[0].resume()
    await until(lambda: own_valkey[0].ask("PING") == b"+PONG")
    own_valkey[0].kill()
    with pytest.raises(StoreUnavailable, match=r"cannot be reached|broke the connection off"):
        await store.find("a")
    own_valkey.append(own_valkey[0].again())
    assert await store.find("a") is None
    await store.aclose()


async def test_many_at_once_share_a_few_connections(valkey: Valkey, redis_url: str, part: str) -> None:
    for number in range(100):
        valkey.ask("SET", f"{part}:apikey:k{number}", json.dumps({"id": str(number)}))
    store = keys(redis_url + "&timeout=1")
    found = await asyncio.gather(*(store.find(f"k{number}") for number in range(100)))
    assert [record["id"] for record in found] == [str(number) for number in range(100)]
    await store.aclose()


async def test_its_job_closes_its_connections_at_the_end(valkey: Valkey, redis_url: str) -> None:
    store = keys(redis_url)
    runtime = LoopRuntime(asyncio.get_running_loop())
    runtime.want(store.jobs())
    assert await store.find("a") is None
    await until(lambda: store._server._clients)
    await runtime.close()
    assert not store._server._clients
    # And a question after that opens another.
    assert await store.find("a") is None
    await store.aclose()


@pytest.mark.parametrize("options", ["timeout=1.5", "timeout=0.001", "prefix=", "prefix=a%20b", "max_entries=5"])
def test_an_option_that_makes_no_sense_is_refused(options: str) -> None:
    with pytest.raises(ValueError, match=r"timeout|prefix"):
        keys(f"redis://host?{options}")
