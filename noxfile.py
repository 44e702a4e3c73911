"""What CI gates, one session each. Bare `nox` runs all of it, the quickest to fail first; Python and pip are enough.

`ci` runs in one environment what would otherwise be five: making environments costs more than the checks in them. Its last
step is the tests, so that the last thing to be read is their summary.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "package", "ci"]
nox.options.reuse_venv = "yes"
nox.options.stop_on_first_error = True

HERE = Path(__file__).parent
DIST = HERE / "dist"
PURE = (
    "errors.py",
    "core/",
    "mechanisms/",
    "routing/",
    "policies/",
    "config/",
    "upstream/balance.py",
    "clients/addresses.py",
    "clients/redis_urls.py",
    "clients/urls.py",
)
LEAST_ABOVE = 90.0
"""Percent of lines that must be covered above the pure floors."""


def lint_steps(session: nox.Session) -> None:
    """Style, format, and that the version and the newest entry of the changelog agree."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    found = re.search(r'^__version__ = "(.+)"$', (HERE / "src/gatekit/__init__.py").read_text(), re.MULTILINE)
    newest = re.search(r"^## \[?(\d[^\] ]*)", (HERE / "CHANGELOG.md").read_text(), re.MULTILINE)
    if found is None or newest is None or found[1] != newest[1]:
        session.error("the version in src/gatekit/__init__.py is not the newest entry of CHANGELOG.md")


def docs_steps(session: nox.Session) -> None:
    """The site, every warning an error."""
    with tempfile.TemporaryDirectory() as built:
        session.run("sphinx-build", "-q", "-W", "-b", "html", "docs", built)


def test_steps(session: nox.Session) -> None:
    """Every test, two at a time, under coverage. It starts before pytest does, since pytest loads our own plugin at once.

    All servers are installed here, so none may be missing. Coverage is gated only when everything ran. What only watches
    processes of its own says nothing about coverage: it runs by itself.
    """
    session.run("coverage", "erase")
    environment = {"GATEKIT_REQUIRE_SERVERS": "1", "GATEKIT_FUZZ": "1000000"}
    if session.posargs:
        session.run("pytest", "-q", *session.posargs, env=environment)
        return
    session.run("pytest", "-q", "-n", "2", "-m", "apart", env=environment)
    session.run("coverage", "run", "-m", "pytest", "-q", "-n", "2", "-m", "not apart", env=environment)
    session.run("coverage", "combine", "-q")
    report = Path(session.create_tmp()).resolve() / "coverage.json"
    session.run("coverage", "json", "-q", "-o", str(report))
    cover(session, report)


def cover(session: nox.Session, report: Path) -> None:
    """Pure floors: every line and every branch. The rest: no less than is stated here."""
    files = json.loads(report.read_text())["files"]
    missing: list[str] = []
    lines = covered = pure = 0
    for name, file in sorted(files.items()):
        if name.removeprefix("src/gatekit/").startswith(PURE):
            pure += 1
            missing += [f"{name}:{line}" for line in file["missing_lines"]]
            missing += [f"{name}:{start}->{end}" for start, end in file.get("missing_branches", [])]
        else:
            lines += file["summary"]["num_statements"]
            covered += file["summary"]["covered_lines"]
    if missing or not pure:
        session.error("not covered on the pure floors: " + (", ".join(missing[:50]) or "none of them was measured"))
    above = 100 * covered / lines
    session.log(f"coverage: every line and branch of the pure floors ({pure} files), {above:.1f} % of the lines above")
    if above < LEAST_ABOVE:
        session.error(f"less than {LEAST_ABOVE} % of the lines above the pure floors are covered")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format, without anything of ours installed."""
    session.install("ruff>=0.9")
    lint_steps(session)


@nox.session(default=False)
def dist(session: nox.Session) -> None:
    """Build the wheel from the sdist, both into dist/."""
    session.install("build")
    shutil.rmtree(DIST, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(DIST), silent=True)


@nox.session(requires=["dist"], reuse_venv=False)
def package(session: nox.Session) -> None:
    """Install the wheel alone into a clean environment; then, with its extra `server`, let it serve."""
    (wheel,) = DIST.glob("*.whl")
    session.install(str(wheel))
    with session.chdir(session.create_tmp()):
        session.run("python", "-c", "import gatekit; [getattr(gatekit, name) for name in gatekit.__all__]")
        session.run("gatekit", "--version")
        session.run("gatekit", "schema", silent=True)
        session.install(f"gatekit-asgi[server] @ {wheel.as_uri()}")
        session.run("gatekit", "demo", "--once")


@nox.session
def ci(session: nox.Session) -> None:
    """Floors, types, docs and tests in one environment."""
    session.install("-e", ".[dev]")
    session.run("lint-imports")
    session.run("mypy")
    docs_steps(session)
    test_steps(session)


@nox.session(default=False)
def deploy(session: nox.Session) -> None:
    """The deployment examples with what only Debian has (apt-get install systemd), and what the Containerfile installs."""
    session.install("-e", ".[dev]")
    required = {"GATEKIT_REQUIRE_SYSTEMD": "1", "GATEKIT_REQUIRE_SERVERS": "1"}
    session.run("pytest", "-q", "tests/deploy", env=required)
    session.run("python", "tests/deploy/install.py")


@nox.session(default=False)
def drills(session: nox.Session) -> None:
    """Every drill, one after the other, also those that want the machine for themselves."""
    session.install("-e", ".[dev]")
    required = {"GATEKIT_DRILLS": "1", "GATEKIT_REQUIRE_SERVERS": "1"}
    session.run("pytest", "-q", "tests/drills", *session.posargs, env=required)


@nox.session(default=False)
def memcached(session: nox.Session) -> None:
    """Counters in a real memcached, which only the system has (apt-get install memcached)."""
    session.install("-e", ".[dev]")
    required = {"GATEKIT_REQUIRE_MEMCACHED": "1", "GATEKIT_REQUIRE_SERVERS": "1"}
    session.run("pytest", "-q", "tests/stores/test_counters_limits.py", *session.posargs, env=required)


@nox.session(default=False)
def corpora(session: nox.Session) -> None:
    """The public conformance corpus of CEL (cel-spec 0.24), which comes with the source distribution of cel-python."""
    session.install("-e", ".[dev]", "pip")
    with tempfile.TemporaryDirectory() as folder:
        session.run(
            "python", "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", folder, "cel-python==0.5.0"
        )  # fmt: skip
        (source,) = Path(folder).glob("*.tar.gz")
        shutil.unpack_archive(source, folder, filter="data")
        (features,) = {file.parent for file in Path(folder).rglob("features/basic.textproto")}
        session.run("pytest", "-q", "tests/policies/authz/test_cel_corpus.py", env={"GATEKIT_CEL_SPEC": str(features)})


@nox.session
def quick(session: nox.Session) -> None:
    """Under a minute once its environment is there: style, floors, and the tests that start no server process."""
    session.install("-e", ".[dev]")
    lint_steps(session)
    session.run("lint-imports")
    session.run("pytest", "-q", "-m", "not servers", "-n", "auto", *session.posargs)


@nox.session
def floors(session: nox.Session) -> None:
    """Imports go down only."""
    session.install("-e", ".[dev]")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict on sources, tests, examples and this file."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Every test, with coverage. `nox -s tests -- tests/core` runs some, without the gate."""
    session.install("-e", ".[dev]")
    test_steps(session)


@nox.session(python=["3.11", "3.12", "3.13"])
def matrix(session: nox.Session) -> None:
    """Every test on every Python of the classifiers that is installed."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-q", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site."""
    session.install("-e", ".[docs]")
    docs_steps(session)


@nox.session
def examples(session: nox.Session) -> None:
    """What README, documentation and examples show, run."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-q", "tests/docs", *session.posargs)


@nox.session
def api(session: nox.Session) -> None:
    """The examples under a second type checker, as users see the package. It needs Node, so CI does not gate it."""
    session.install("-e", ".[dev]", "pyright")
    session.run("pyright", "examples")


@nox.session
def golden(session: nox.Session) -> None:
    """Write the golden files and the generated reference anew; look at the difference before you commit it."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-q", "tests/golden", "tests/config", "tests/project", env={"GATEKIT_REWRITE": "1"})
    session.run("python", "docs/figures.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Figures, as ratios within one run. Never gated. It needs wrk (`apt-get install -y wrk`) and a quiet machine of
    two cores; options go to bench/gateways.py, as in `nox -s bench -- --rounds 1 --only gatekit`."""
    session.install("-e", ".[bench]")
    session.run("python", "bench/gateways.py", *session.posargs)
    if not session.posargs:
        for script in sorted(set(Path("bench").glob("*.py")) - {Path("bench/gateways.py")}):
            session.run("python", str(script))
