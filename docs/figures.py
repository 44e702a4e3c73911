"""Draws what is drawn in the documentation from what the code says: `python docs/figures.py` writes it into the pages.

Figures, and tables of settings: between `<!-- settings MODULE:CLASS -->` and `<!-- /settings -->` a page has the fields of
that model, each with its default and the docstring beneath it. A test fails when a page and the code disagree.
"""

from __future__ import annotations

import ast
import configparser
import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gatekit.core.policy import Stage

DOCS = Path(__file__).parent
BEGIN, END = "<!-- drawn -->", "<!-- /drawn -->"
SETTINGS = re.compile(r"(<!-- settings ([\w.]+):(\w+) -->\n).*?(<!-- /settings -->)", re.DOTALL)

_SAYS = {
    Stage.OBSERVE: "telemetry: hears how everything ends",
    Stage.PRIORITY: "how important is it?",
    Stage.SHED: "overload: turn away before work is done",
    Stage.PREFLIGHT: "CORS preflights",
    Stage.LIMIT_ANONYMOUS: "limits by what is known of anybody",
    Stage.IDENTIFY: "who is calling?",
    Stage.AUTHORISE: "may they?",
    Stage.LIMIT: "limits by user, tenant, key",
    Stage.INSPECT: "what reads the body",
    Stage.TRANSFORM: "headers, rewrites, redirects",
    Stage.CALL: "destination: split, balance, forward",
}


def request() -> str:
    """The life of a request, stage by stage."""
    rows = [("door", "head limits, one Host, canonical path, route")]
    rows += [(stage.name.lower().replace("_", "-"), _SAYS[stage]) for stage in Stage]
    drawn = [f"   ▼  {name:<17}{says:<48}" for name, says in rows]
    width = len(drawn[0])
    bottom = " upstream, or the app behind ".center(width - 4, "─")
    return "\n".join(
        [
            f"{'request':<{width - 3}}response",
            f"{'   │':<{width}}▲",
            *(f"{line}│" for line in drawn),
            f"   └{bottom}┘",
        ]
    )


def floors() -> str:
    """The floors, as import-linter enforces them."""
    contracts = configparser.ConfigParser()
    contracts.read(DOCS.parent / ".importlinter")
    layers = contracts["importlinter:contract:floors"]["layers"].split("\n")
    rows = [layer.strip() for layer in layers if layer.strip()]
    pure = set(contracts["importlinter:contract:pure"]["source_modules"].replace("gatekit.", "").split())
    width = max(len(row) for row in rows)
    drawn = [
        f"│ {row:<{width}} │{'  pure' if pure.intersection(row.split(' | ')) == set(row.split(' | ')) else ''}"
        for row in rows
    ]
    edge = "─" * (width + 2)
    return "\n".join([f"┌{edge}┐", *f"\n├{edge}┤\n".join(drawn).split("\n"), f"└{edge}┘"])


FIGURES = {"concepts/request.md": request, "concepts/floors.md": floors}


def drawn(page: str) -> str:
    """The page as it should be."""
    text = (DOCS / page).read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n```text\n{FIGURES[page]()}\n```\n{END}{after}"


def settings(model: type[BaseModel]) -> str:
    """The fields of a model as a table."""
    said: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if issubclass(one, BaseModel) and one is not BaseModel:
            said |= dict(_said(one))
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        # What tells methods from each other is not for anybody to choose.
        if name != "method":
            default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
            rows.append(f"| `{field.alias or name}` | {default} | {said[name].replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"


def _said(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """What stands beneath the fields of one class."""
    (tree,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(model))).body
    assert isinstance(tree, ast.ClassDef)
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                yield name, " ".join(doc.split())


def _default(value: Any) -> str:
    if value is None or value in ((), {}, frozenset()):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (tuple, list)):
        return ", ".join(f"`{one}`" for one in value)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def tabled(page: Path) -> str:
    """The page with its tables of settings as they should be."""

    def table(found: re.Match[str]) -> str:
        return found[1] + settings(getattr(import_module(found[2]), found[3])) + found[4]

    return SETTINGS.sub(table, page.read_text(encoding="utf-8"))


def main() -> int:
    """Write every figure and every table."""
    for page in FIGURES:
        (DOCS / page).write_text(drawn(page))
    for path in DOCS.rglob("*.md"):
        text = tabled(path)
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
