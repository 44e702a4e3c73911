"""Draws what is drawn in the documentation from what the code says: `python docs/figures.py` writes it into the pages.

A test fails when a page and the code disagree.
"""

from __future__ import annotations

import configparser
import sys
from pathlib import Path

from gatekit.core.policy import Stage

DOCS = Path(__file__).parent
BEGIN, END = "<!-- drawn -->", "<!-- /drawn -->"

_SAYS = {
    Stage.OBSERVE: "telemetry: hears how everything ends",
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


def main() -> int:
    """Write every figure."""
    for page in FIGURES:
        (DOCS / page).write_text(drawn(page))
    return 0


if __name__ == "__main__":
    sys.exit(main())
