"""Authentication: who is calling?"""

from gatekit.policies.authn.config import Authn
from gatekit.policies.authn.keys import ApiKey, ApiKeys, api_keys

__all__ = ["ApiKey", "ApiKeys", "Authn", "api_keys"]
