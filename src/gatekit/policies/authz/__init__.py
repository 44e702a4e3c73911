"""Authorisation: may they?"""

from gatekit.policies.authz.config import Authz, ShadowPolicy
from gatekit.policies.authz.model import CertificateTest, Rule
from gatekit.policies.authz.rules import Asking, Decider, Outside, Verdict, answer_with
from gatekit.policies.authz.shadow import ShadowDisagreed
from gatekit.policies.authz.values import ClaimTest, Param, TextTest

__all__ = [
    "Asking", "Authz", "CertificateTest", "ClaimTest", "Decider", "Outside", "Param", "Rule", "ShadowDisagreed",
    "ShadowPolicy", "TextTest", "Verdict", "answer_with",
]  # fmt: skip
