"""What a layer of ours is for, as it says of itself."""

from typing import Any, Final, Literal

Role = Literal["labels", "proposals", "objects", "boxes", "overlay", "line"]
"""What a person painted, what was proposed, objects one by one, boxes around things, a picture over a slice, a tool."""

_KEY: Final = "napari_fewshot"  # in a layer's metadata


def role(name: Role) -> dict[str, Any]:
    """Metadata of a layer for this."""
    return {_KEY: name}


def role_of(layer: Any) -> str:
    """What a layer is for, "" of one that is not ours."""
    return str(layer.metadata.get(_KEY, ""))


def give_role(layer: Any, name: Role) -> None:
    """Let a layer that somebody made be for this."""
    layer.metadata[_KEY] = name
