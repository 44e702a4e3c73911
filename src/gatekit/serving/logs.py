"""Logging of the processes that `gatekit run` starts: one format on standard error, text for people or JSON lines."""

from __future__ import annotations

import json
import logging
import sys
import time


class JsonLines(logging.Formatter):
    """One JSON object a line, in printable ASCII: no value can end a line. Access fields stand beside the others."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        access = getattr(record, "access", None)
        line: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": self._process,
        }
        if isinstance(access, dict):
            line.update({name: value for name, value in access.items() if name not in line})
        else:
            line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, separators=(",", ":"), default=str)


class TextLines(logging.Formatter):
    """Time in UTC, level, who, what."""

    def __init__(self, process: str) -> None:
        super().__init__(
            f"%(asctime)s.%(msecs)03dZ %(levelname)-7s {process} %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        # An access line has its own time and fields: it is written as its policy was asked to write it.
        return record.getMessage() if hasattr(record, "access") else super().format(record)


def set_up(process: str, format: str, level: str) -> None:
    """Send everything that is logged to standard error. `process` is what lines call this one: `supervisor`, `worker 1`.

    Libraries that say much at `info` are heard from `warning` on.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(process) if format == "json" else TextLines(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    quiet = max(root.level, logging.WARNING)
    for name in ("httpx", "httpcore", "uvicorn", "uvicorn.error", "_granian", "asyncio", "watchfiles"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
        logger.setLevel(quiet)
