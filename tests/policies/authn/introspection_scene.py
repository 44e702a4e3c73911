"""A method of introspection behind the reader of tokens, its server scripted, its clock standing still."""

from __future__ import annotations

from typing import Any

from gatekit.core.identity import Identity
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.policies.authn.bearer import Bearer
from gatekit.policies.authn.introspection import introspection
from gatekit.policies.authn.introspection_bound import BoundIntrospection
from gatekit.policies.authn.introspector import Introspector
from gatekit.policies.authn.method import Verified
from gatekit.testing import FakeFetch, ManualClock, request, test_ports
from gatekit.testing.policies import step

URL = "https://as.example/introspect"
SECRET = "MARKER-client-secret"
NOW = 1_700_000_000.0
TOKEN = "MARKER-opaque.token_1"
GOOD: dict[str, Any] = {
    "active": True, "sub": "ann", "aud": "shop", "iss": "https://as.example", "client_id": "app", "scope": "b a",
    "exp": NOW + 3600, "iat": NOW - 5, "jti": "j1", "token_type": "Bearer",
}  # fmt: skip


class Scene:
    """A method of introspection behind the reader of tokens, its server scripted, its clock standing still."""

    def __init__(self, fetch: Any = None, ports: Ports | None = None, **fields: Any) -> None:
        self.clock = ManualClock(wall=NOW)
        self.fetch: Any = FakeFetch() if fetch is None else fetch
        self.ports = test_ports(clock=self.clock, fetch=self.fetch) if ports is None else ports
        given: dict[str, Any] = {"url": URL, "audience": "shop", "client_id": "gw", "client_secret": SECRET}
        self.spec = introspection(**{**given, **fields})
        self.method: BoundIntrospection = self.spec.bind_tokens(self.ports, "gateway", lambda identity: [])
        self.bearer = Bearer([self.spec], [self.method], self.ports, "gateway")

    @property
    def line(self) -> Any:
        asker: Introspector = self.method._asker
        return asker.line

    def answers(self, *answers: Any, **how: Any) -> Scene:
        for answer in answers:
            self.fetch.answer(URL, json=answer, **how)
        return self

    def ask(self, token: str = TOKEN) -> Verified | Reply:
        found: Any = self.bearer.identify(request("GET", "/", headers={"Authorization": f"Bearer {token}"}))
        return found if isinstance(found, (Verified, Reply)) else step(found, "identify")

    def identity(self, token: str = TOKEN) -> Identity:
        found = self.ask(token)
        assert isinstance(found, Verified), found
        return found.identity

    def reason(self, token: str = TOKEN) -> str | None:
        found = self.ask(token)
        return found.reason if isinstance(found, Reply) else None

    @property
    def calls(self) -> int:
        return len(self.fetch.calls)
