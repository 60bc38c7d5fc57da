"""The note of an operation: what a caller adds to its six words, as one JSON object in canonical text.

An entry has notes only if one of its operations has a note::

    ref   reference: 1 to 140 printable characters
    meta  metadata: an object of strings
    refs  references of single legs of a group, by their index
    min   minor units that the payer must still have available afterwards; the apply script enforces it

The script reads only `min`. The text is part of a transfer's fingerprint, so its keys are sorted.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from wallet_engine.domain.errors import Corruption

REFERENCE: Final = "ref"
METADATA: Final = "meta"
LEG_REFERENCES: Final = "refs"
AVAILABLE_MIN: Final = "min"
#: The note of an account whose metadata is removed.
NO_METADATA: Final = '{"meta":{}}'

_encode = msgspec.json.Encoder(order="sorted").encode


def note_of(
    reference: str | None = None,
    metadata: Mapping[str, str] | None = None,
    available_minor_min: int | None = None,
    leg_references: Mapping[str, str] | None = None,
) -> str:
    """The note with the given values; empty when none is given."""
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
