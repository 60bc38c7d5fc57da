"""The validated request for one transfer: HTTP passes it on and the saga carries it out."""

from typing import NamedTuple


class TransferCommand(NamedTuple):
    """One transfer to make. `transaction` is the packed id (`domain.ids.pack_transaction_id`)."""

    from_account: str
    to_account: str
    amount_minor: int
    currency: str
    transaction: str
    #: See `domain/notes.py`; empty when the caller said nothing more.
    note: str = ""
    #: Id of the key that pays; empty without keys.
    by: str = ""
