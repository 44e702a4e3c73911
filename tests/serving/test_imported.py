"""Which Gateway a target in Python names, and what is said where it names none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekit import Gateway
from gatekit.serving.settings import BadSettings, Settings
from gatekit.serving.worker import imported


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is where the command was started."""
    monkeypatch.chdir(tmp_path)
    before, path = set(sys.modules), sys.path[:]
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("made_"):
            del sys.modules[name]


def written(folder: Path, name: str) -> None:
    (folder / f"{name}.py").write_text(
        "from types import SimpleNamespace\nfrom gatekit import Gateway\n"
        "gateway = Gateway()\n"
        "apps = SimpleNamespace(edge=gateway, inner=SimpleNamespace(make=lambda: gateway))\n"
        "def make():\n    return gateway\n"
        "number = 7\n"
        "def wrong():\n    return 'text'\n"
        "def needs(what):\n    return gateway\n"
        "def breaks():\n    raise LookupError('no backend')\n"
    )


@pytest.mark.parametrize("attribute", ["gateway", "make", "apps.edge", "apps.inner.make", "Gateway"])
def test_a_gateway_or_a_function_of_one_is_taken(modules: Path, attribute: str) -> None:
    written(modules, "made_shop")
    assert isinstance(imported(Settings(f"made_shop:{attribute}")), Gateway)


@pytest.mark.parametrize(
    ("target", "error", "said"),
    [
        ("made_one:number", BadSettings, "made_one:number is a int, not a gatekit.Gateway or a function of one"),
        ("made_one:wrong", BadSettings, "made_one:wrong is a str, not a gatekit.Gateway"),
        ("made_one:apps", BadSettings, "made_one:apps is a SimpleNamespace"),
        ("made_one:nothing", AttributeError, "nothing"),
        ("made_one:gateway.nothing", AttributeError, "nothing"),
        ("made_one:needs", TypeError, "what"),
        ("made_one:breaks", LookupError, "no backend"),
        ("made_nowhere:gateway", ModuleNotFoundError, "made_nowhere"),
        ("gateway.yaml", BadSettings, "is no module:attribute"),
    ],
)
def test_what_is_none_is_said(modules: Path, target: str, error: type[Exception], said: str) -> None:
    written(modules, "made_one")
    with pytest.raises(error, match=said):
        imported(Settings(target))
