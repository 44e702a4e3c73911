"""Where the keys of an issuer come from, and how they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from math import isfinite

from gatekit.core.ports import PUBLIC, Reach
from gatekit.policies.authn.discovery import checked_url


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class KeySource:
    """Where the keys of an issuer come from, and how they are kept. Durations are seconds.

    `url` is that of the key set itself; with `issuer` instead, it is found by discovery. `algorithms` are those its keys
    may be used for. `timeout` is for one attempt, discovery included; `ttl` after how long keys are stale where the
    answer does not say; `stale` for how long they are used all the same while no others can be had; `cooldown` how far
    apart fetches are that requests with unknown key ids cause.
    """

    algorithms: frozenset[str]
    url: str | None = None
    issuer: str | None = None
    reach: Reach = PUBLIC
    timeout: float = 5.0
    ttl: float = 300.0
    stale: float = 86_400.0
    cooldown: float = 30.0

    def __post_init__(self) -> None:
        """Raises ValueError, with what to do."""
        if (self.url is None) == (self.issuer is None):
            raise ValueError("a key set has either the URL of its own or an issuer whose metadata tells it")
        if not self.algorithms:
            raise ValueError("name at least one algorithm that keys may be used for")
        if self.issuer is not None and "?" in self.issuer:
            raise ValueError("an issuer is a URL without a query")
        http = bool(self.reach.networks)
        checked_url(self.name, http=http, what="the URL of a key set" if self.issuer is None else "an issuer")
        for name in ("timeout", "ttl", "stale", "cooldown"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise ValueError(f"{name} is a number of seconds above 0")

    @property
    def name(self) -> str:
        """The URL that was configured, of the key set or of the issuer."""
        return self.url or self.issuer or ""

    @property
    def shown(self) -> str:
        """The same as it may be shown: a query may hold a secret."""
        return self.name.partition("?")[0]

    @property
    def identity(self) -> tuple[object, ...]:
        """What must be equal for two to be the same keys."""
        return ("jwks", self.url, self.issuer, self.algorithms, self.reach)

    @property
    def file(self) -> str:
        """The name under which the key set outlives the process."""
        text = "\n".join([str(self.url), str(self.issuer), *sorted(self.algorithms)])
        return f"jwks-{sha256(text.encode('utf-8')).hexdigest()[:40]}.json"

    def __repr__(self) -> str:
        return f"KeySource({self.shown!r})"
