"""The note of an operation, what a caller adds to its six words: one JSON object, in one canonical text.

An entry has such an object only if one of its operations has something in it::

    ref   reference: 1 to 140 printable characters
    meta  metadata: an object of strings
    refs  references of single legs of a group, by their index
    min   what the payer must have left available, in minor units; the apply script decides by it

The script looks at `min` alone. The text is part of a transfer's fingerprint, so keys are sorted.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from wallet_engine.domain.errors import Corruption

REFERENCE: Final = "ref"
METADATA: Final = "meta"
LEG_REFERENCES: Final = "refs"
AVAILABLE_MIN: Final = "min"
#: Of an account whose metadata are taken back.
NO_METADATA: Final = '{"meta":{}}'

_encode = msgspec.json.Encoder(order="sorted").encode


def note_of(
    reference: str | None = None,
    metadata: Mapping[str, str] | None = None,
    available_minor_min: int | None = None,
    leg_references: Mapping[str, str] | None = None,
) -> str:
    """The note of what was given; empty when nothing was."""
    given = {REFERENCE: reference, METADATA: metadata or None, AVAILABLE_MIN: available_minor_min}
    given[LEG_REFERENCES] = leg_references or None
    said = {name: value for name, value in given.items() if value is not None}
    return _encode(said).decode() if said else ""


def said_in(note: str) -> dict[str, Any]:
    """The object of a note, empty for an empty one."""
    return msgspec.json.decode(note, type=dict[str, Any]) if note else {}


def canonical(said: object) -> str:
    """The text of a note that was read as part of something else. Raises `Corruption`."""
    if not isinstance(said, dict) or not said:
        raise Corruption(f"not a note: {said!r}")
    return _encode(said).decode()
