"""docs/reference/config.md is made from the models, and out of date when they change.

Run with GATEKIT_REWRITE=1 to write it anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gatekit.config.cluster import Cluster
from gatekit.config.model import GatewayConfig, Route
from gatekit.config.schema import json_schema

PAGE = Path(__file__).parents[2] / "docs/reference/config.md"

HEAD = """\
# Configuration

Every setting of a configuration document, made from the models themselves. The same names are the keyword arguments of
`gatekit.Gateway`, `gatekit.Route` and `gatekit.Cluster`. `gatekit schema` prints the JSON Schema for editors. What the
policies take is on their own pages; how documents are read and put in force is in [](../concepts/config.md).

Durations are a number of seconds, or text with a unit: `250ms`, `1.5s`, `2m`, `1h`, `1d`. Where a list of texts is
taken, one text may stand alone.
"""

VALUES = """
## Values of headers, query parameters and cookies

| written | matches |
|---|---|
| `gold` or `{exact: gold}` | that value |
| `{prefix: g}` | a value that begins so |
| `{regex: "g[0-9]+"}` | a value that matches the RE2 regex as a whole |
| `{present: true}` | any value |
| `{absent: true}` | a request without it |
| `{not: ...}` | what the form inside does not match, also a request without it |
"""


def takes(schema: dict[str, Any]) -> str:
    """What a setting takes, in words."""
    if "$ref" in schema:
        return {"Route": "a route", "Cluster": "a cluster"}.get(schema["$ref"].rsplit("/", 1)[1], "a policy")
    forms = schema.get("anyOf") or schema.get("oneOf")
    if forms:
        if any(form.get("pattern", "").startswith("^[0-9]+") for form in forms):
            return "duration"
        words = [takes(form) for form in forms if form.get("type") != "null"]
        return " or ".join(dict.fromkeys(word for word in words if f"list of {word}" not in words))
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return f"list of {takes(schema['items'])}" if "items" in schema else "list"
    if kind == "object":
        inner = schema.get("additionalProperties") or next(iter(schema.get("patternProperties", {}).values()), None)
        return f"mapping of name to {takes(inner)}" if isinstance(inner, dict) else "mapping"
    return {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}[str(kind)]


def table(schema: dict[str, Any]) -> list[str]:
    """The settings of one model."""
    lines = ["| setting | takes | default | |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        default = (
            "required" if name in schema.get("required", []) else f"`{field['default']}`" if "default" in field else ""
        )
        if default in ("`None`", "`[]`"):
            default = ""
        value = "value (see below)" if name in ("headers", "query", "cookies") else None
        kind = f"mapping of name to {value}" if value else takes(field)
        if name == "to":
            kind = "text, mapping of name to weight, or list of pairs"
        lines.append(
            f"| `{name}` | {kind} | {default} | {' '.join(field['description'].split())} |".replace("  |", " |")
        )
    return lines


def page() -> str:
    schema = json_schema()
    parts = [HEAD]
    for title, model, part in (
        ("The document", GatewayConfig, schema),
        ("A route", Route, schema["$defs"]["Route"]),
        ("A cluster", Cluster, schema["$defs"]["Cluster"]),
    ):
        parts += [
            f"## {title}\n",
            f"{model.__doc__ or ''}".replace("\n    ", "\n").strip() + "\n",
            "\n".join(table(part)),
        ]
        only = [name for name in model.model_fields if name not in part["properties"]]
        if only:
            names = ", ".join(f"`{name}`" for name in only)
            parts.append(f"\nIn Python only: {names}.")
        parts.append("")
    return "\n".join(parts) + VALUES


def test_the_reference_is_what_the_models_say() -> None:
    if os.environ.get("GATEKIT_REWRITE"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "run with GATEKIT_REWRITE=1"
