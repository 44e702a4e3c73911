"""gatekit: the API gateway as a Python library.

This is the shelf: every public name, sorted, loaded when it is first asked for (PEP 562), so that importing the
package costs next to nothing. Middlewares are in `gatekit.asgi` and `gatekit.wsgi`, the test kit in `gatekit.testing`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatekit.config.cluster import Cluster
    from gatekit.config.model import GatewayConfig, Route
    from gatekit.core.contracts import violations
    from gatekit.core.events import (
        BreakerChanged,
        ConfigApplied,
        ConfigRejected,
        EndpointFailed,
        Event,
        Events,
        GatewayStarted,
        KeySetRefreshed,
        KeySetStale,
        PolicyFailed,
        RequestRefused,
    )
    from gatekit.core.exchange import Exchange
    from gatekit.core.head import ResponseHead
    from gatekit.core.headers import Headers
    from gatekit.core.identity import ANONYMOUS, Identity
    from gatekit.core.outcome import Fault, Grade, Outcome
    from gatekit.core.policy import IDENTITY, BodyFilter, Job, Placement, Spec, Stage
    from gatekit.core.ports import Ports
    from gatekit.core.verdict import Reply
    from gatekit.errors import (
        ClientDisconnected,
        ConfigRefused,
        ContractViolation,
        GatekitError,
        MisplacedPolicy,
        MissingPort,
        MissingSecret,
        PolicySuspended,
        Problem,
        ResponseTruncated,
        RouteFailed,
        StoreUnavailable,
        UpstreamError,
    )
    from gatekit.gateway.gateway import Gateway
    from gatekit.gateway.system import plans, revocations
    from gatekit.policies.authn import (
        ApiKey,
        Authn,
        BasicUser,
        CertificateCaller,
        all_of,
        api_keys,
        basic,
        development_tokens,
        hash_password,
        introspection,
        jwt,
        mtls,
        new_api_key,
    )
    from gatekit.policies.authz import Authz, CertificateTest, ClaimTest, Param, Rule, ShadowPolicy, TextTest
    from gatekit.policies.authz.cel import cel
    from gatekit.policies.authz.external import external
    from gatekit.policies.cors import Cors
    from gatekit.policies.guard import SecurityHeaders
    from gatekit.policies.overload import Overload, Priority
    from gatekit.policies.rate_limit import (
        LimitExceeded,
        LimitNear,
        LimitRule,
        RateLimit,
        StoreBack,
        StoreLost,
    )
    from gatekit.policies.telemetry import Telemetry
    from gatekit.policies.transform import Redirect, RequestHeaders, Respond, ResponseHeaders, Rewrite

__version__ = "0.1.0"

_HOMES = {
    "ANONYMOUS": "core.identity",
    "ApiKey": "policies.authn",
    "Authn": "policies.authn",
    "Authz": "policies.authz",
    "BasicUser": "policies.authn",
    "BodyFilter": "core.policy",
    "BreakerChanged": "core.events",
    "CertificateCaller": "policies.authn",
    "CertificateTest": "policies.authz",
    "ClaimTest": "policies.authz",
    "ClientDisconnected": "errors",
    "Cluster": "config.cluster",
    "ConfigApplied": "core.events",
    "ConfigRefused": "errors",
    "ConfigRejected": "core.events",
    "ContractViolation": "errors",
    "Cors": "policies.cors",
    "EndpointFailed": "core.events",
    "Event": "core.events",
    "Events": "core.events",
    "Exchange": "core.exchange",
    "Fault": "core.outcome",
    "GatekitError": "errors",
    "Gateway": "gateway.gateway",
    "GatewayConfig": "config.model",
    "GatewayStarted": "core.events",
    "Grade": "core.outcome",
    "Headers": "core.headers",
    "IDENTITY": "core.policy",
    "Identity": "core.identity",
    "Job": "core.policy",
    "KeySetRefreshed": "core.events",
    "KeySetStale": "core.events",
    "LimitExceeded": "policies.rate_limit",
    "LimitNear": "policies.rate_limit",
    "LimitRule": "policies.rate_limit",
    "MisplacedPolicy": "errors",
    "MissingPort": "errors",
    "MissingSecret": "errors",
    "Outcome": "core.outcome",
    "Overload": "policies.overload",
    "Param": "policies.authz",
    "Placement": "core.policy",
    "PolicyFailed": "core.events",
    "PolicySuspended": "errors",
    "Ports": "core.ports",
    "Priority": "policies.overload",
    "Problem": "errors",
    "RateLimit": "policies.rate_limit",
    "Redirect": "policies.transform",
    "Reply": "core.verdict",
    "RequestHeaders": "policies.transform",
    "RequestRefused": "core.events",
    "Respond": "policies.transform",
    "ResponseHead": "core.head",
    "ResponseHeaders": "policies.transform",
    "ResponseTruncated": "errors",
    "Rewrite": "policies.transform",
    "Route": "config.model",
    "RouteFailed": "errors",
    "Rule": "policies.authz",
    "SecurityHeaders": "policies.guard",
    "ShadowPolicy": "policies.authz",
    "Spec": "core.policy",
    "Stage": "core.policy",
    "StoreBack": "policies.rate_limit",
    "StoreLost": "policies.rate_limit",
    "StoreUnavailable": "errors",
    "Telemetry": "policies.telemetry",
    "TextTest": "policies.authz",
    "UpstreamError": "errors",
    "all_of": "policies.authn",
    "api_keys": "policies.authn",
    "basic": "policies.authn",
    "cel": "policies.authz.cel",
    "development_tokens": "policies.authn",
    "external": "policies.authz.external",
    "hash_password": "policies.authn",
    "introspection": "policies.authn",
    "jwt": "policies.authn",
    "mtls": "policies.authn",
    "new_api_key": "policies.authn",
    "plans": "gateway.system",
    "revocations": "gateway.system",
    "violations": "core.contracts",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'gatekit' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"gatekit.{home}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "ANONYMOUS", "ApiKey", "Authn", "Authz", "BasicUser", "BodyFilter", "BreakerChanged", "CertificateCaller",
    "CertificateTest", "ClaimTest", "ClientDisconnected", "Cluster", "ConfigApplied", "ConfigRefused",
    "ConfigRejected", "ContractViolation", "Cors", "EndpointFailed", "Event", "Events", "Exchange", "Fault",
    "GatekitError", "Gateway", "GatewayConfig", "GatewayStarted", "Grade", "Headers", "IDENTITY", "Identity", "Job",
    "KeySetRefreshed", "KeySetStale", "LimitExceeded", "LimitNear", "LimitRule", "MisplacedPolicy", "MissingPort",
    "MissingSecret", "Outcome", "Overload", "Param", "Placement", "PolicyFailed", "PolicySuspended", "Ports",
    "Priority", "Problem", "RateLimit", "Redirect", "Reply", "RequestHeaders", "RequestRefused", "Respond",
    "ResponseHead", "ResponseHeaders", "ResponseTruncated", "Rewrite", "Route", "RouteFailed", "Rule",
    "SecurityHeaders", "ShadowPolicy", "Spec", "Stage", "StoreBack", "StoreLost", "StoreUnavailable", "Telemetry",
    "TextTest", "UpstreamError", "__version__", "all_of", "api_keys", "basic", "cel", "development_tokens",
    "external", "hash_password", "introspection", "jwt", "mtls", "new_api_key", "plans", "revocations", "violations",
]  # fmt: skip
