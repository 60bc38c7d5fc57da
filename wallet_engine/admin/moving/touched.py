"""Tells which fields of a partition's hashes an entry may have changed: a copy must read those again."""

from collections.abc import Iterator

from wallet_engine.domain.entry import Entry
from wallet_engine.domain.ids import is_system
from wallet_engine.domain.key_names import BALANCE, FLAGS, SEEN
from wallet_engine.domain.kinds import Id, kind_of
from wallet_engine.domain.memory import credit_memory, transfer_field
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.oracle_state import CARRIED

#: (key of the hash without its tag, field)
Field = tuple[bytes, bytes]


def touched_fields(entry: Entry) -> set[Field]:
    """All changed fields, sometimes more. Without `open` and `meta`, which are compared as a whole.

    Raises `Corruption` for an unknown kind of operation.
    """
    return {
        (key.encode(), field.encode())
        for operation in entry.operations
        for key, field in _touched(operation, entry.header.window)
    }


def _touched(operation: Operation, window: int) -> Iterator[tuple[str, str]]:
    kind = kind_of(operation.kind)
    for account, _ in kind.sides(operation):
        yield f"{BALANCE}:{operation.currency}", account
        if is_system(account):
            yield f"{BALANCE}:{operation.currency}", account + CARRIED
    for key, field in kind.touches(operation):
        for named in (f"{SEEN}:{window}", f"{SEEN}:{window - 1}") if key == SEEN else (key,):
            yield named, field
    if kind.flags:
        yield FLAGS, operation.account
    if kind.remembered or kind.rewrites:
        if kind.id is Id.CREDIT:
            field, _ = credit_memory(operation.id, operation.other)
        else:
            field = transfer_field(operation.account, operation.id)
        yield f"{SEEN}:{window}", field
        if kind.rewrites:  # the answer may be in the window before
            yield f"{SEEN}:{window - 1}", field
