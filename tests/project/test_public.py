"""The shelf: what is public, that it is all there, and that importing it costs next to nothing."""

from __future__ import annotations

import inspect
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import gatekit
import gatekit.asgi
import gatekit.testing
import gatekit.wsgi
from gatekit.policies import POLICIES, spec_class

ROOT = Path(__file__).parents[2]
SNAPSHOT = Path(__file__).with_name("public_names.txt")
CONSTANTS = {"ANONYMOUS", "IDENTITY", "__version__"}
MOST_MILLISECONDS = 150


def test_names_are_sorted_and_all_have_a_home() -> None:
    assert gatekit.__all__ == sorted(gatekit.__all__)
    assert set(gatekit.__all__) == {*gatekit._HOMES, "__version__"}
    assert list(gatekit._HOMES) == sorted(gatekit._HOMES)


@pytest.mark.parametrize("name", [*gatekit.__all__])
def test_a_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(gatekit, name)
    assert name in dir(gatekit)
    if name not in CONSTANTS:
        assert inspect.getdoc(found)


def test_every_home_can_be_the_first_that_is_loaded() -> None:
    """The other tests have imported everything: a home that only loads after another one would not show in them."""
    code = (
        "import sys\nfor name in sys.argv[1:]:\n"
        "    for loaded in [one for one in sys.modules if one.partition('.')[0] == 'gatekit']: del sys.modules[loaded]\n"
        "    import gatekit; getattr(gatekit, name)"
    )
    names = {home: name for name, home in gatekit._HOMES.items()}.values()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *names], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stderr


def test_the_whole_shelf_can_be_taken_in_a_fresh_interpreter() -> None:
    code = "from gatekit import *; import gatekit; assert set(gatekit.__all__) <= {*dir()}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        gatekit.Nothing  # noqa: B018


def test_the_public_names_are_those_of_the_snapshot() -> None:
    """Adding or dropping a public name shows in review. Run with GATEKIT_REWRITE=1 to write it anew."""
    shelves = (gatekit, gatekit.asgi, gatekit.testing, gatekit.wsgi)
    names = "".join(f"{shelf.__name__}.{name}\n" for shelf in shelves for name in shelf.__all__)
    if os.environ.get("GATEKIT_REWRITE"):
        SNAPSHOT.write_text(names)
    assert SNAPSHOT.read_text() == names


@pytest.mark.parametrize("world", [gatekit.asgi, gatekit.testing, gatekit.wsgi])
def test_middlewares_are_sorted_and_say_what_they_are(world: object) -> None:
    names: list[str] = world.__all__  # type: ignore[attr-defined]
    assert names == sorted(names)
    assert all(inspect.getdoc(getattr(world, name)) for name in names)


@pytest.mark.parametrize("kind", POLICIES)
def test_every_policy_has_its_page_and_its_name_on_the_shelf(kind: str) -> None:
    pages = [page for page in (ROOT / "docs/policies").glob("*.md") if page.stem != "index"]
    assert any(f"`{kind}`" in page.read_text() or f"{kind}:" in page.read_text() for page in pages)
    assert f"`{kind}`" in (ROOT / "docs/policies/index.md").read_text()
    assert spec_class(kind).__name__ in gatekit.__all__


def test_importing_it_loads_next_to_nothing_and_takes_no_time() -> None:
    code = (
        "import sys, time, json; begun = time.perf_counter(); import gatekit; took = time.perf_counter() - begun;"
        "print(json.dumps([took, [name for name in ('pydantic', 'httpx', 'asyncio', 'yaml') if name in sys.modules]]))"
    )
    times = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
        took, loaded = json.loads(done.stdout)
        assert loaded == []
        times.append(took * 1000)
    assert statistics.median(times) <= MOST_MILLISECONDS
