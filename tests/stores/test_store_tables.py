"""Every scheme in the tables of stores: it opens without asking anything of the outside, and shows no password."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from gatekit.stores import API_KEYS, COUNTERS, PLANS, REVOCATIONS, SystemStores
from gatekit.testing import FakeDisk, test_ports

TABLES: dict[str, Mapping[str, str]] = {
    "api_keys": API_KEYS,
    "counters": COUNTERS,
    "plans": PLANS,
    "revocations": REVOCATIONS,
}
SCHEMES = [(sort, scheme) for sort, table in TABLES.items() for scheme in table]
READ_HERE = [pair for pair in SCHEMES if pair[1] != "limits+mongodb"]
"""What stands in a URL of MongoDB is its driver's affair."""
NEEDS = {"limits+memcached": "memcachio", "limits+mongodb": "motor"}
GOOD = {
    "file": "file:///nowhere/at/all",
    "memory": "memory:",
    "limits+memcached": "limits+memcached://user:hunter2@192.0.2.1:1",
    "redis+cluster": "redis+cluster://user:hunter2@192.0.2.1:1,192.0.2.2:1",
    "redis+sentinel": "redis+sentinel://user:hunter2@192.0.2.1:1/mymaster?sentinel_password=hunter2",
    "rediss+cluster": "rediss+cluster://user:hunter2@nowhere.invalid:1",
    "rediss+sentinel": "rediss+sentinel://user:hunter2@nowhere.invalid:1/mymaster",
}
NONSENSE = [
    "{}:hunter2", "{}://user:hunter2@", "{}://user:hunter2@host:hunter2", "{}://user:hunter2@host/0?hunter2=1",
    "{}://user:hunter2@host/0#hunter2", "{}://user:hunter2@[host", "{}://user:hunter2@host/0?timeout=hunter2",
]  # fmt: skip


def open_store(sort: str, url: str) -> Any:
    return getattr(SystemStores(), sort)(url, test_ports(disk=FakeDisk()))


def need(scheme: str) -> None:
    package = NEEDS.get(scheme)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize(("sort", "scheme"), SCHEMES, ids=[f"{sort}-{scheme}" for sort, scheme in SCHEMES])
def test_every_scheme_opens_without_a_word_to_anybody(sort: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    need(scheme)
    asked: list[object] = []

    def refused(*arguments: object, **options: object) -> Any:
        asked.append(arguments)
        raise OSError("nothing is asked when a store is opened")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    store = open_store(sort, GOOD.get(scheme, f"{scheme}://user:hunter2@192.0.2.1:1"))
    assert not asked
    shown = [repr(store), str(store)]
    shown += [repr(store.status())] if hasattr(store, "status") else []
    shown += [repr(job.key) for job in store.jobs()] if hasattr(store, "jobs") else []
    assert not any("hunter2" in text for text in shown)


@pytest.mark.parametrize("url", NONSENSE)
@pytest.mark.parametrize(("sort", "scheme"), READ_HERE, ids=[f"{sort}-{scheme}" for sort, scheme in READ_HERE])
def test_a_url_that_makes_no_sense_is_refused_without_a_word_of_it(sort: str, scheme: str, url: str) -> None:
    need(scheme)
    with pytest.raises(ValueError) as caught:
        open_store(sort, url.format(scheme))
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize("sort", TABLES)
@pytest.mark.parametrize("url", ["", "://", "hunter2", "postgres://user:hunter2@host/db", " redis://user:hunter2@host"])
def test_a_url_of_no_store_is_refused_with_those_there_are(sort: str, url: str) -> None:
    with pytest.raises(ValueError, match="begins with one of ") as caught:
        open_store(sort, url)
    assert "hunter2" not in str(caught.value)
    assert all(f"{scheme}:" in str(caught.value) for scheme in TABLES[sort])
