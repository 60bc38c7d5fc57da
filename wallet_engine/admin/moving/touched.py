"""Which fields of a partition's hashes an entry may have changed: those a copy must read again."""

from typing import Final

from wallet_engine.domain.entry import Entry
from wallet_engine.domain.memory import credit_memory, transfer_field

TRANSIT: Final = b"@transit"

#: (kind of hash, its key without the tag; field)
Field = tuple[bytes, bytes]


def touched_fields(entry: Entry) -> set[Field]:
    """More than were changed at times, never fewer. `open` and `meta` are compared whole and are not in it."""
    window = entry.header.window
    seen = b"seen:%d" % window
    fields: set[Field] = set()
    for operation in entry.operations:
        kind, a, b = operation.kind, operation.a.encode(), operation.b.encode()
        book = b"balance:" + operation.currency.encode()
        if kind in "tdcr":
            for name in (a, b if kind == "t" else TRANSIT):
                fields |= {(book, name), (book, name + b"+")} if name.startswith(b"@") else {(book, name)}
            if kind == "c":
                remembered = credit_memory(operation.id, operation.b)[0].encode()
            else:
                remembered = transfer_field(operation.a, operation.id).encode()
            fields.add((seen, remembered))
            if kind == "r":  # the answer it rewrites may be of the window before
                fields.add((b"seen:%d" % (window - 1), remembered))
        elif kind == "o":
            fields |= {(book, a), (b"flags", a)}
        elif kind == "f":
            fields.add((b"flags", a))
    return fields
