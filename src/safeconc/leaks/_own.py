"""Our own tasks and threads, which are not what somebody looks for."""

from typing import Any
from weakref import WeakSet

own: "WeakSet[Any]" = WeakSet()
"""Who watches puts itself here, and is in no census."""
