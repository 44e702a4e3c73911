"""What the processes write to standard error: one line for one record, for people or for machines."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.serving.logs import JsonLines, TextLines, set_up


def record(message: str, *arguments: object, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("gatekit.worker", logging.WARNING, __file__, 1, message, arguments, None)
    made.created = 1_700_000_000.1234567
    made.msecs = 123.4567
    for name, value in more.items():
        setattr(made, name, value)
    return made


def parsed(made: logging.LogRecord) -> dict[str, Any]:
    text = JsonLines("worker-2").format(made)
    assert re.fullmatch(r"[ -~]+", text), "printable ASCII, so no value can end a line"
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_says_when_how_bad_who_and_what() -> None:
    assert parsed(record("%s of %d", "one", 2)) == {
        "time": 1700000000.123,
        "level": "warning",
        "logger": "gatekit.worker",
        "process": "worker-2",
        "message": "one of 2",
    }


def test_access_fields_stand_beside_the_others_and_replace_none() -> None:
    made = record("GET /", access={"status": 200, "level": "forged", "process": "forged", "message": "own"})
    said = parsed(made)
    assert (said["status"], said["message"]) == (200, "own")
    assert (said["level"], said["process"]) == ("warning", "worker-2")


def test_what_is_no_set_of_fields_is_a_message() -> None:
    assert parsed(record("GET /", access="GET / 200"))["message"] == "GET /"


def test_an_exception_stays_on_its_line() -> None:
    try:
        raise LookupError("a\nb")
    except LookupError:
        said = parsed(record("broken", exc_info=sys.exc_info()))
    assert said["exception"].endswith("LookupError: a\nb")
    assert "Traceback" in said["exception"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(object()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.text(), st.none() | st.dictionaries(st.text(), values, max_size=5))
def test_one_line_whatever_is_logged(message: str, access: dict[str, Any] | None) -> None:
    said = parsed(record("%s", message, **({} if access is None else {"access": access})))
    assert (said["level"], said["logger"], said["process"]) == ("warning", "gatekit.worker", "worker-2")
    if access is None:
        assert said["message"] == message


def test_text_says_the_same_in_utc() -> None:
    text = TextLines("supervisor").format(record("%s of %d", "one", 2))
    assert text == "2023-11-14T22:13:20.123Z WARNING supervisor gatekit.worker: one of 2"


def test_an_access_line_in_text_is_written_as_its_policy_wrote_it() -> None:
    assert TextLines("worker-1").format(record("GET / 200", access={"status": 200})) == "GET / 200"


# -- setting up


@pytest.fixture
def restored() -> Iterator[None]:
    """The logging of the tests is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    names = ["httpx", "httpcore", "uvicorn", "uvicorn.error", "_granian", "asyncio", "watchfiles"]
    kept = {name: (logging.getLogger(name).level, logging.getLogger(name).propagate) for name in names}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, (its, propagate) in kept.items():
        logging.getLogger(name).setLevel(its)
        logging.getLogger(name).propagate = propagate


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("format", ["text", "json"])
def test_everything_goes_to_standard_error_once(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    set_up("supervisor", format, "info")
    set_up("supervisor", format, "info")
    logging.getLogger("gatekit.supervisor").info("a")
    logging.getLogger("gatekit.supervisor").debug("not said")
    logging.getLogger("httpx").info("not said either")
    logging.getLogger("uvicorn.error").warning("b")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    if format == "json":
        assert [json.loads(line)["message"] for line in lines] == ["a", "b"]
    else:
        assert lines[0].endswith("INFO    supervisor gatekit.supervisor: a")


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(("level", "loud"), [("debug", logging.WARNING), ("error", logging.ERROR)])
def test_libraries_are_never_louder_than_asked_for(level: str, loud: int) -> None:
    set_up("supervisor", "text", level)
    assert logging.getLogger("asyncio").getEffectiveLevel() == loud
    assert logging.getLogger("gatekit").getEffectiveLevel() == getattr(logging, level.upper())
