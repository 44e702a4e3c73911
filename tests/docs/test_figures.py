"""What is drawn in the pages is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", DOCS / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["concepts/request.md", "concepts/floors.md"])
def test_a_figure_is_up_to_date(page: str) -> None:
    module = figures()
    assert set(module.FIGURES) == {"concepts/request.md", "concepts/floors.md"}
    assert (DOCS / page).read_text() == module.drawn(page), "run: python docs/figures.py"


@pytest.mark.parametrize(
    "page",
    [path for path in sorted(DOCS.rglob("*.md")) if "<!-- settings" in path.read_text()],
    ids=lambda path: path.stem,
)
def test_tables_of_settings_are_up_to_date(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == figures().tabled(page), "run: python docs/figures.py"
