"""How Envoy's configuration writes its values, and the names of what is in ours."""

from typing import Any

FRONT, FLEET, INSTANCES, ACTIVATOR = "front", "fleet", "instances", "activator"
NOT_AGAIN = "x-envoy-ratelimited"
"""By this header the activator tells Envoy that its 503 is not to be tried again; callers never see it."""
_TYPES = "type.googleapis.com/envoy."


def typed(kind: str, **values: Any) -> dict[str, Any]:
    """A message of a type that is named in it."""
    return {"@type": _TYPES + kind, **values}


def extension(name: str, kind: str, **values: Any) -> dict[str, Any]:
    """A named extension with its configuration."""
    return {"name": name, "typed_config": typed(kind, **values)}


def seconds(value_s: float) -> str:
    """A duration."""
    return f"{value_s:.3f}s"
