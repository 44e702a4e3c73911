"""The page on configuration: its document is accepted, its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatekit.config.documents import config_from
from gatekit.providers.file import parse_text

PAGE = (Path(__file__).parents[2] / "docs/concepts/config.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
YAML = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("code", PYTHON)
def test_its_python_runs(code: str) -> None:
    exec(compile(code, "docs/concepts/config.md", "exec"), {"__name__": "page"})


@pytest.mark.parametrize("text", YAML)
def test_its_documents_are_accepted_without_a_warning(text: str) -> None:
    assert config_from(parse_text(text)).warnings == ()


def test_it_has_both() -> None:
    assert len(PYTHON) == 4
    assert len(YAML) == 1
