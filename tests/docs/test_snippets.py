"""What the pages show is run: Python fences of a page in order, in one namespace; configurations are loaded.

A YAML fence without `routes:` is an excerpt: it may leave out the policy that another of its policies needs, nothing else.

A fence of `python no-run (reason)` is left out; there are few of them, and a limit.
"""

from __future__ import annotations

import re
import sys
import tomllib
import types
from pathlib import Path

import pytest

from gatekit import ConfigRefused, Gateway
from gatekit.providers.file import parse_text

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
MOST_LEFT_OUT = 3


def fences(page: Path) -> list[tuple[str, str, int]]:
    """Info string, text and line of every fence."""
    text = page.read_text()
    return [
        (found["info"].strip(), found["code"], text.count("\n", 0, found.start()) + 2) for found in FENCE.finditer(text)
    ]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if any(f[0] == "python" for f in fences(page))], ids=name)
def test_the_python_of_a_page_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("a_page")
    monkeypatch.setitem(sys.modules, "a_page", module)
    for info, code, line in fences(page):
        if info == "python":
            # Compiled with the page's own lines, so that a failure points there.
            compiled = compile("\n" * (line - 1) + code, str(page), "exec", dont_inherit=True)
            exec(compiled, module.__dict__)


@pytest.mark.parametrize("page", [page for page in PAGES if any(f[0] == "yaml" for f in fences(page))], ids=name)
def test_the_configurations_of_a_page_are_good(page: Path) -> None:
    for info, code, _ in fences(page):
        if info == "yaml":
            document = parse_text(code, str(page))
            try:
                Gateway.from_config(document)
            except ConfigRefused as refused:
                findings = [str(problem) for problem in refused.problems]
                excerpt = "routes" not in document.data
                assert [one for one in findings if not (excerpt and "no policy here provides it" in one)] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_fence_is_of_a_kind_that_is_looked_at(page: Path) -> None:
    for info, code, line in fences(page):
        assert re.fullmatch(r"python|yaml|toml|text|console|\{toctree\}|(python|yaml) no-run \(.+\)", info), line
        if info == "toml":
            tomllib.loads(code)


def test_few_fences_are_left_out() -> None:
    left_out = [f"{name(page)}:{line}" for page in PAGES for info, _, line in fences(page) if "no-run" in info]
    assert len(left_out) <= MOST_LEFT_OUT, left_out
