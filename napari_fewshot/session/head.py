"""The small file of a session on the disk that names all others: its bytes, with a version and a digest."""

import hashlib
import json
from typing import Any, Final

HEAD: Final = "session.json"
FORMAT: Final = "napari-fewshot session"
VERSION: Final = 2
"""The newest that is read. Without objects 1 is written, which versions before this one read too."""

ARRAYS: Final[tuple[str, ...]] = (
    "shot", "shot_objects", "guessed", "accepted", "accepted_objects", "origins", "pixels", "painted",
)  # fmt: skip
"""Of a frame, beside its proposal."""
OF_PROPOSAL: Final = ("corrections", "uncleaned", "objects")
"""Beside its labels."""
OBJECTS: Final = {"shot_objects": "shot", "accepted_objects": "accepted", "objects": "proposal"}
"""Maps of objects, and the labels that they are about."""


class NewerError(Exception):
    """Written by a newer version, whose number it names."""


def sealed(head: dict[str, Any]) -> bytes:
    """Return the bytes of a head, with a digest by which damage is noticed."""
    return json.dumps({**head, "digest": _digest_of(head)}, ensure_ascii=False, indent=0).encode()


def opened(content: bytes) -> dict[str, Any]:
    """Return the head of its bytes.

    Raises
    ------
    NewerError
        If a newer version wrote it.
    ValueError
        If it is no head, or damaged.
    """
    head = json.loads(content)
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ValueError(f"'{HEAD}' is no session")
    version = head.get("version")
    if not isinstance(version, int) or version < 1:
        raise ValueError("its version is not said")
    if version > VERSION:
        raise NewerError(str(version))
    digest = head.pop("digest", "")
    if digest != _digest_of(head):
        raise ValueError("its checksum is another")
    return head


def version_of(records: list[dict[str, Any]]) -> int:
    """Return the oldest version that reads these records of frames whole."""
    told_apart = any(r.keys() & OBJECTS.keys() or "objects" in r.get("proposal", {}) for r in records)
    return VERSION if told_apart else 1


def arrays_named_in(head: dict[str, Any]) -> set[str]:
    """Return the names of all arrays of a head."""
    names = set()
    for record in head.get("frames", ()):
        names |= {record[k] for k in ARRAYS if k in record}
        names |= {v for k, v in record.get("proposal", {}).items() if k in ("labels", *OF_PROPOSAL)}
    return names


def arrays_named_by(content: bytes | None) -> set[str]:
    """Return the same of the bytes of a head, of which nothing else is asked: they may be damaged, or missing."""
    try:
        head = json.loads(content or b"{}")
    except ValueError:
        return set()
    return arrays_named_in(head) if isinstance(head, dict) else set()


def _digest_of(head: dict[str, Any]) -> str:
    canonical = json.dumps(head, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()
