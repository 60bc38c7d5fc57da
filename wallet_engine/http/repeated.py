"""JSON objects with a field that is given twice. Whoever checks the object refuses it, and so can say where it is."""

from collections import Counter
from typing import Any


class Repeating(dict[str, Any]):
    """The other fields of such an object; which value the repeated ones have is not known."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        given = Counter(name for name, _ in pairs)
        super().__init__((name, value) for name, value in pairs if given[name] == 1)
        #: The first field that is repeated.
        self.field = next(name for name in given if given[name] > 1)


def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a JSON document with these fields."""
    document = dict(pairs)
    return document if len(document) == len(pairs) else Repeating(pairs)


def repeated_in(document: dict[str, Any]) -> str:
    """What to say of the object's repeated field; empty if there is none."""
    # Escaped and cut: a name may contain anything, even a surrogate that no answer can encode.
    return f"field {document.field[:64]!a} is given twice" if isinstance(document, Repeating) else ""
