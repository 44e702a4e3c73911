"""Which provider a source means, and providers of other distributions."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from gatekit import ConfigRefused, Gateway
from gatekit.core.plan import Document
from gatekit.providers import PROVIDERS, provider, read


def from_nowhere(source: str) -> Document:
    return Document(source, {"max_headers": 7})


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets installed distributions offer these providers."""

    def offer(*values: str) -> None:
        entries = [metadata.EntryPoint("nowhere", value, "gatekit.providers") for value in values]

        def entry_points(**selected: Any) -> Any:
            return metadata.EntryPoints(entries).select(**selected)

        monkeypatch.setattr(metadata, "entry_points", entry_points)

    return offer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a gateway.yaml"
    path.write_text("max_headers: 5\n")
    return path


def test_every_provider_in_the_table_is_there() -> None:
    assert all(callable(provider(name)) for name in PROVIDERS)


def test_a_path_and_the_url_of_a_file_are_the_same(file: Path) -> None:
    assert read(file).data == read(str(file)).data == read(file.as_uri()).data == {"max_headers": 5}
    with pytest.raises(ConfigRefused, match="another host"):
        read("file://elsewhere/x.yaml")


def test_a_provider_of_another_distribution(offered: Callable[..., None]) -> None:
    offered(f"{__name__}:from_nowhere")
    loaded = provider("nowhere")
    assert loaded("nowhere://x").data == {"max_headers": 7}
    assert Gateway.from_config("nowhere://x").config.max_headers == 7


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "there is no provider 'nowhere'; file ships"),
        (["a:b", "c:d"], "more than one"),
        (["no_such_module_at_all:x"], "cannot be loaded"),
    ],
)
def test_what_cannot_be_used_is_refused(offered: Callable[..., None], values: list[str], said: str) -> None:
    offered(*values)
    with pytest.raises(ConfigRefused, match=said):
        read("nowhere://x")
