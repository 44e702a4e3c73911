"""The spec of telemetry. Its docstrings are the reference documentation."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from gatekit.core.headers import encode_name
from gatekit.core.policy import Placement, Spec, Stage
from gatekit.core.ports import Ports
from gatekit.policies.telemetry.policy import TelemetryPolicy


class Telemetry(Spec):
    """Writes one access line for each request, aborted ones included, and returns the request id to the client.

    A line has no query, no header and no body, so that it can hold no credential; what a client wrote into it is
    escaped, so that it can make no second line.
    """

    kind: ClassVar[str] = "telemetry"
    status: ClassVar[str] = "preview"

    access_log: bool = True
    """Whether access lines are written."""
    logger: str = Field(default="gatekit.access", min_length=1)
    """The name of the `logging` logger they go to."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The level they have. A logger that does not take it costs one check per request."""
    format: Literal["json", "text"] = "json"
    """`json`: one object per line. `text`: `key=value` pairs, quoted where needed, `-` for what is not known."""
    request_id_header: str | None = "x-request-id"
    """The response header that carries the request id; None sends none."""

    @field_validator("request_id_header")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        return None if value is None else encode_name(value).decode("ascii")

    def placement(self) -> Placement:
        return Placement(Stage.OBSERVE)

    def bind_to(self, ports: Ports) -> TelemetryPolicy:
        return TelemetryPolicy(self, ports)
