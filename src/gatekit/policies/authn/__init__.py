"""Authentication: who is calling?"""

from gatekit.policies.authn.basic import Basic, BasicUser, basic, hash_password
from gatekit.policies.authn.config import AllOf, Authn, all_of
from gatekit.policies.authn.development import DevelopmentTokens, development_tokens
from gatekit.policies.authn.introspection import Introspection, introspection
from gatekit.policies.authn.jwt import Jwt, jwt
from gatekit.policies.authn.key_hash import new_api_key
from gatekit.policies.authn.keys import ApiKey, ApiKeys, api_keys
from gatekit.policies.authn.mtls import CertificateCaller, Mtls, mtls

__all__ = [
    "AllOf", "ApiKey", "ApiKeys", "Authn", "Basic", "BasicUser", "CertificateCaller", "DevelopmentTokens", "Introspection",
    "Jwt", "Mtls", "all_of", "api_keys", "basic", "development_tokens", "hash_password", "introspection", "jwt", "mtls",
    "new_api_key",
]  # fmt: skip
