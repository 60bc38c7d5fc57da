"""Checks the optional reference and metadata of a request; they are kept in the journal."""

import re
from typing import Any, Final

from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.notes import note_of
from wallet_engine.http.repeated import repeated_in

REFERENCE_LENGTH_MAX: Final = 140
METADATA_KEYS_MAX: Final = 16
METADATA_VALUE_LENGTH_MAX: Final = 200
METADATA_BYTES_MAX: Final = 1024

#: Fields of a body that make up a note.
NOTE_FIELDS: Final = ("reference", "metadata")

_key_match = re.compile(r"[a-z0-9_]{1,40}\Z").match


def parse_note(
    document: dict[str, Any],
    available_minor_min: int | None = None,
    leg_references: dict[str, str] | None = None,
) -> str:
    """The note of a body (`domain/notes.py`). Raises `InvalidInput`."""
    reference, metadata = document.get("reference"), document.get("metadata")
    if reference is None and metadata is None and available_minor_min is None and not leg_references:
        return ""
    return note_of(_reference(reference), _metadata(metadata), available_minor_min, leg_references)


def parse_reference(document: dict[str, Any]) -> str | None:
    """The reference in a body, or in a part of it. Raises `InvalidInput`."""
    return _reference(document.get("reference"))


def _reference(reference: object) -> str | None:
    if reference is None:
        return None
    if not isinstance(reference, str) or not 1 <= len(reference) <= REFERENCE_LENGTH_MAX:
        raise InvalidInput(
            "invalid_request", f"reference must be a text of 1 to {REFERENCE_LENGTH_MAX} characters"
        )
    if not reference.isprintable() or reference != reference.strip():
        raise InvalidInput("invalid_request", "reference must be printable, with spaces inside only")
    return reference


def _metadata(metadata: object) -> dict[str, str] | None:
    if metadata is None:
        return None
    if not isinstance(metadata, dict) or len(metadata) > METADATA_KEYS_MAX:
        raise InvalidInput(
            "invalid_request", f"metadata must be an object of at most {METADATA_KEYS_MAX} keys"
        )
    if repeated := repeated_in(metadata):
        raise InvalidInput("invalid_request", f"metadata: {repeated}")
    size = 0
    for key, value in metadata.items():
        if not _key_match(key):
            raise InvalidInput("invalid_request", "a key of metadata is 1 to 40 of a-z, 0-9 and _")
        if not isinstance(value, str) or len(value) > METADATA_VALUE_LENGTH_MAX or not value.isprintable():
            raise InvalidInput(
                "invalid_request",
                f"metadata.{key} must be a printable text of at most {METADATA_VALUE_LENGTH_MAX} characters",
            )
        size += len(key) + len(value.encode())
    if size > METADATA_BYTES_MAX:
        raise InvalidInput(
            "invalid_request", f"metadata has {size} bytes, at most {METADATA_BYTES_MAX} are kept"
        )
    return metadata
