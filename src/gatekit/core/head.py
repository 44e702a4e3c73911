"""The head of a response, as `on_response` hooks see and change it."""

from __future__ import annotations

from gatekit.core.headers import Headers, RawHeaders


class ResponseHead(Headers):
    """Status and headers of a response that has not been sent yet.

    The same type stands for the app's response, the upstream's, our own replies, a WebSocket accept (status 101) and a
    WebSocket denial. `set`, `append` and `remove` come from `Headers`.
    """

    __slots__ = ("status",)

    def __init__(self, status: int, raw: RawHeaders | None = None, *, shared: bool = False) -> None:
        # As Headers.__init__ does it, without the call: there is one for every response.
        self.raw = self.origin = [] if raw is None else raw
        self.shape = None
        self._shared = shared
        self.status = status

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is server-sent events, which must not be held back."""
        value = self.get_bytes(b"content-type")
        return value is not None and value.lower().startswith(b"text/event-stream")

    @property
    def has_body(self) -> bool:
        """Whether a body can follow this status (RFC 9110 sections 6.4.1 and 15.3.6); one to a HEAD request has none
        whatever it says."""
        return self.status >= 200 and self.status not in (204, 205, 304)
