"""Facts as rows of the tables in `migrations/`: one tuple each, in the order of the table's columns.

Postings and transfers are built as one flat tuple: joining several tuples takes four times as long.
"""

from binascii import a2b_base64
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import msgspec
from asyncpg.pgproto.pgproto import UUID

from wallet_engine.domain.notes import LEG_REFERENCES, METADATA, REFERENCE, said_in
from wallet_engine.history.database import ms_of, time_of
from wallet_engine.history.facts import GroupDecision, HoldState, Posting, Transfer

POSTING_COLUMNS: Final = (
    *(
        "at",
        "seq",
        "delta",
        "amount",
        "balance",
        "held",
        "pending",
        "origin_seq",
        "origin_partition",
        "partition",
    ),
    *("idx", "sub", "origin_idx", "leg", "transaction_id", "account", "currency", "type", "status", "code"),
    *("counterparty", "reference", "metadata", "key_id"),
)
TRANSFER_COLUMNS: Final = (
    *(
        "at",
        "ended_at",
        "seq",
        "amount",
        "partition",
        "idx",
        "leg",
        "transaction_id",
        "type",
        "status",
        "code",
    ),
    *("payer", "receiver", "currency", "reference", "metadata", "key_id"),
    *("hold_id", "refunds_payer", "refunds_id", "refunds_leg", "refunds_origin"),
)
GROUP_COLUMNS: Final = (
    *("at", "seq", "partition", "idx", "legs", "transaction_id", "payer", "status", "code"),
    *("reference", "metadata", "key_id", "mark"),
)
HOLD_COLUMNS: Final = (
    *("account", "hold_id", "placed_at", "expires_at", "changed_at", "partition", "currency", "to_account"),
    *("amount", "captured", "released", "captures", "status", "busy", "note", "key_id"),
    "placed_seq",
)

Row = tuple[Any, ...]
_NOTHING: Final = (None, None)
_NO_REFUND: Final = (None, "", None, None)


@lru_cache(maxsize=65_536)
def uuid_of(packed: str) -> Any:
    """A transaction's id as the driver's UUID; None for "". Three rows of a transfer contain it."""
    return UUID(a2b_base64(packed + "==")) if packed else None


def noted(note: str, leg: int = 0) -> tuple[str | None, str | None]:
    """Reference, and metadata as JSON. A leg of a group may have its own reference."""
    if not note:
        return _NOTHING
    said = said_in(note)
    reference = said.get(LEG_REFERENCES, {}).get(str(leg), said.get(REFERENCE))
    metadata = said.get(METADATA)
    return reference, None if metadata is None else msgspec.json.encode(metadata).decode()


def posting_row(posting: Posting, at: datetime, begun: Transfer | None, status: str, code: str) -> Row:
    """`begun` is the transfer of a posting that knows only its origin."""
    origin = posting.origin
    transaction, type_ = posting.transaction, posting.type
    counterparty, note = posting.counterparty, posting.note
    if begun is not None:
        transaction, type_, counterparty, note = begun.transaction, begun.type, begun.payer, begun.note
    reference, metadata = noted(note, origin.leg) if note else _NOTHING
    # fmt: off
    return (
        at, posting.seq, posting.delta, posting.amount_minor or abs(posting.delta),
        posting.balance, posting.held, posting.pending,
        origin.seq, origin.partition, posting.partition, posting.idx, posting.sub, origin.idx, origin.leg,
        uuid_of(transaction), posting.account, posting.currency, type_, status, code or None,
        counterparty or None, reference, metadata, posting.by or None,
    )
    # fmt: on


def transfer_row(transfer: Transfer, at: datetime, ended_at: datetime | None, status: str, code: str) -> Row:
    origin = transfer.origin
    reference, metadata = noted(transfer.note, origin.leg) if transfer.note else _NOTHING
    refunds_payer, refunds_id, refunds_leg, refunds_origin = transfer.refunds or _NO_REFUND
    # fmt: off
    return (
        at, ended_at, origin.seq, transfer.amount_minor, origin.partition, origin.idx, origin.leg,
        uuid_of(transfer.transaction), transfer.type, status, code or None,
        transfer.payer, transfer.receiver, transfer.currency, reference, metadata, transfer.by or None,
        uuid_of(transfer.hold), refunds_payer, uuid_of(refunds_id), refunds_leg, refunds_origin,
    )
    # fmt: on


def group_row(group: GroupDecision) -> Row:
    origin = group.origin
    return (
        *(time_of(group.at_ms), origin.seq, origin.partition, origin.idx, len(group.legs)),
        *(uuid_of(group.transaction), group.payer, group.status, group.code or None),
        *(*noted(group.note, -1), group.by or None, group.mark),
    )


def hold_row(hold: HoldState, partition: int, changed_ms: int) -> Row:
    return (
        *(hold.account, uuid_of(hold.hold), time_of(hold.placed_ms), time_of(hold.expires_ms)),
        *(time_of(changed_ms), partition, hold.currency, hold.to, hold.amount, hold.captured, hold.released),
        *(hold.captures, hold.status, hold.busy, hold.note, hold.by or None, hold.placed_seq),
    )


def hold_of(row: Any, packed: str) -> HoldState:
    """The inverse of `hold_row`; `packed` is the hold's id."""
    return HoldState(
        account=row["account"],
        hold=packed,
        to=row["to_account"],
        currency=row["currency"],
        amount=row["amount"],
        expires_ms=ms_of(row["expires_at"]),
        placed_ms=ms_of(row["placed_at"]),
        note=row["note"],
        by=row["key_id"] or "",
        captured=row["captured"],
        released=row["released"],
        captures=row["captures"],
        status=row["status"],
        busy=row["busy"],
        placed_seq=row["placed_seq"],
    )
