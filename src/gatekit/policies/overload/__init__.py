"""More comes than can be done: who is served, who waits, and who is turned away before any work is done for him."""

from gatekit.policies.overload.config import Admission, Overload
from gatekit.policies.overload.priority import Priority
from gatekit.policies.overload.saturation import saturation

__all__ = ["Admission", "Overload", "Priority", "saturation"]
