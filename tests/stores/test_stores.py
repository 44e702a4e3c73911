"""Stores by their URLs: the tables, what is loaded when, and what is said of a URL that names none."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from gatekit.core.ports import Ports
from gatekit.stores import API_KEYS, REVOCATIONS, SystemStores
from gatekit.testing import test_ports


@pytest.mark.parametrize("place", sorted({*REVOCATIONS.values(), *API_KEYS.values()}))
def test_every_place_in_the_tables_is_a_class(place: str) -> None:
    module, _, name = place.partition(":")
    assert isinstance(getattr(import_module(module), name), type)


@pytest.mark.parametrize("url", ["", "redis", "memcached://host", "://", "rediss ", "postgres://user:hunter2@host/db"])
def test_a_url_of_no_store_is_refused_with_those_there_are(url: str) -> None:
    with pytest.raises(ValueError, match="begins with one of file:, memory:, redis:, rediss:") as caught:
        SystemStores().revocations(url, test_ports())
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError, match="begins with one of file:, redis:, rediss:"):
        SystemStores().api_keys(url, test_ports())


def test_a_scheme_is_read_in_any_case() -> None:
    assert SystemStores().revocations("MEMORY:", test_ports()).revoked({}) is None


def test_there_are_no_api_keys_in_memory() -> None:
    with pytest.raises(ValueError, match="one of file:, redis:, rediss:"):
        SystemStores().api_keys("memory:", test_ports())


def test_opening_asks_nothing_of_the_outside() -> None:
    """No loop runs here, and nobody listens there."""
    for url in ("redis://192.0.2.1:1/0", "rediss://nowhere.invalid", "file:///nowhere/at/all", "memory:"):
        assert SystemStores().revocations(url, test_ports()).revoked({"jti": "a"}) is None
    SystemStores().api_keys("redis://nowhere.invalid", test_ports())


def test_a_store_is_loaded_when_it_is_asked_for() -> None:
    program = (
        "import sys, gatekit.stores; from gatekit.testing import test_ports as ports\n"
        "assert not any(name == 'redis' or name.startswith(('redis.', 'gatekit.stores.')) for name in sys.modules)\n"
        "gatekit.stores.SystemStores().revocations('memory:', ports())\n"
        "assert 'redis' not in sys.modules\n"
        "gatekit.stores.SystemStores().revocations('redis://host', ports())\n"
        "assert 'redis' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("url", ["redis://user:hunter2@host:1/0", "rediss://:hunter2@host"])
def test_a_password_is_in_nothing_that_is_shown(url: str) -> None:
    ports: Ports = test_ports()
    stores = [SystemStores().revocations(url, ports), SystemStores().api_keys(url, ports)]
    for store in stores:
        shown = [repr(store), str(store), repr(store.status())]  # type: ignore[attr-defined]
        shown += [repr(job.key) for job in store.jobs()]  # type: ignore[attr-defined]
        assert not any("hunter2" in text for text in shown)


@pytest.mark.parametrize("url", ["memory:x", "memory://host", "memory:#a"])
def test_memory_is_nowhere(url: str) -> None:
    with pytest.raises(ValueError, match="is memory: and nothing else"):
        SystemStores().revocations(url, test_ports())
