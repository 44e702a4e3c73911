"""What CI gates, one session each. Bare `nox` runs them all in one environment; nothing but Python and pip is needed."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["ci", "package"]
nox.options.reuse_existing_virtualenvs = True

HERE = Path(__file__).parent
CODE = ("src", "tests", "examples", "noxfile.py")
PURE = ("errors.py", "core/", "mechanisms/", "routing/", "policies/", "config/", "upstream/balance.py")


def lint_steps(session: nox.Session) -> None:
    """Style, format, and that the version and the newest entry of the changelog agree."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    found = re.search(r'^__version__ = "(.+)"$', (HERE / "src/gatekit/__init__.py").read_text(), re.MULTILINE)
    newest = re.search(r"^## \[?(\d[^\] ]*)", (HERE / "CHANGELOG.md").read_text(), re.MULTILINE)
    if found is None or newest is None or found[1] != newest[1]:
        session.error("the version in src/gatekit/__init__.py is not the newest entry of CHANGELOG.md")


def test_steps(session: nox.Session, *arguments: str) -> None:
    """Every test, under coverage. It starts before pytest does, since pytest loads our own plugin at once."""
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-q", *arguments, *session.posargs)
    session.run("coverage", "json", "-q", "-o", "coverage.json")
    cover(session)


def cover(session: nox.Session) -> None:
    """Pure floors: every line and every branch. The rest: no less than is stated here."""
    files = json.loads((HERE / "coverage.json").read_text())["files"]
    missing: list[str] = []
    lines = covered = 0
    for name, file in sorted(files.items()):
        inside = name.removeprefix("src/gatekit/")
        if inside.startswith(PURE):
            missing += [f"{name}:{line}" for line in file["missing_lines"]]
            missing += [f"{name}:{start}->{end}" for start, end in file.get("missing_branches", [])]
        else:
            lines += file["summary"]["num_statements"]
            covered += file["summary"]["covered_lines"]
    if missing:
        session.error("not covered on the pure floors: " + ", ".join(missing[:50]))
    session.log(f"pure floors: 100 % of lines and branches; the rest: {100 * covered / lines:.1f} % of lines")
    if covered < 0.9 * lines:
        session.error("less than 90 % of the lines above the pure floors are covered")


def docs_steps(session: nox.Session) -> None:
    """The site, every warning an error."""
    with tempfile.TemporaryDirectory() as built:
        session.run("sphinx-build", "-q", "-W", "-b", "html", "docs", built)


@nox.session
def ci(session: nox.Session) -> None:
    """All checks that share one environment, the quickest to fail first."""
    session.install("-e", ".[dev]")
    lint_steps(session)
    session.run("lint-imports")
    session.run("mypy")
    test_steps(session)
    docs_steps(session)


@nox.session
def package(session: nox.Session) -> None:
    """Build the distributions, install the wheel into this clean environment, and let it serve."""
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(dist), silent=True)
    wheel = next(dist.glob("*.whl")).resolve()
    session.install("--force-reinstall", str(wheel))
    with session.chdir(session.create_tmp()):
        session.run("python", "-c", "import gatekit; [getattr(gatekit, name) for name in gatekit.__all__]")
        session.run("gatekit", "--version")
        session.run("gatekit", "schema", silent=True)
        session.install(f"{wheel}[server]")
        session.run("gatekit", "demo", "--once")


@nox.session
def quick(session: nox.Session) -> None:
    """Under a minute: style, floors, and the tests that need no server process."""
    session.install("-e", ".[dev]")
    lint_steps(session)
    session.run("lint-imports")
    session.run("pytest", "-q", "-m", "not servers", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format."""
    session.install("ruff")
    lint_steps(session)


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict on sources, tests, examples and this file."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session
def floors(session: nox.Session) -> None:
    """Imports go down only."""
    session.install("-e", ".[dev]")
    session.run("lint-imports")


@nox.session
def tests(session: nox.Session) -> None:
    """Every test, with coverage."""
    session.install("-e", ".[dev]")
    test_steps(session)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site."""
    session.install("-e", ".[docs]")
    docs_steps(session)


@nox.session
def golden(session: nox.Session) -> None:
    """Write the golden files and the generated reference anew; look at the difference before you commit it."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-q", "tests/golden", "tests/config", env={"GATEKIT_REWRITE": "1"})
    session.run("python", "docs/figures.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Figures, as ratios within one run. Never gated."""
    session.install("-e", ".[dev]")
    for script in sorted(Path("bench").glob("*.py")):
        session.run("python", str(script))
