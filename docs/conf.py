"""The documentation site."""

from __future__ import annotations

from gatekit import __version__

project = "gatekit"
author = "the gatekit authors"
copyright = "the gatekit authors"
version = release = __version__
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"gatekit {release}"
exclude_patterns: list[str] = []
