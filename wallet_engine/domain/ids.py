"""Account ids and transaction ids: how they are checked, and the compact form used inside operations."""

import binascii
import re
from typing import Final

from wallet_engine.domain.errors import InvalidInput

#: The system account that holds money between its debit and its credit (G1).
TRANSIT: Final = "@transit"

_account_match = re.compile(r"@?[A-Za-z0-9._:-]{1,64}\Z").match
_uuid_match = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\Z"
).match


def is_system(account_id: str) -> bool:
    """Whether the account is a system account: unlimited, in every partition, never opened."""
    return account_id[:1] == "@"


def check_account_id(account_id: object, field: str = "account_id") -> str:
    """The account id, or `InvalidInput("invalid_request")` that names `field`."""
    if not isinstance(account_id, str) or not _account_match(account_id) or len(account_id) > 64:
        raise InvalidInput(
            "invalid_request",
            f"{field} must be 1-64 characters of A-Z a-z 0-9 . _ : - (a leading @ names a system account)",
        )
    return account_id


def check_transaction_id(transaction_id: object) -> str:
    """The transaction id in canonical lower case, or `InvalidInput("invalid_request")`."""
    if not isinstance(transaction_id, str) or not _uuid_match(transaction_id):
        raise InvalidInput("invalid_request", "transaction_id must be a UUID such as 6f1c1a3e-…-…-…-…")
    return transaction_id.lower()


def pack_transaction_id(transaction_id: str) -> str:
    """A canonical UUID as 22 characters of base64: the form in operations, entries and dedupe memory."""
    raw = binascii.unhexlify(transaction_id.replace("-", ""))
    return binascii.b2a_base64(raw, newline=False)[:22].decode()


def unpack_transaction_id(packed: str) -> str:
    """The inverse of `pack_transaction_id`."""
    h = binascii.a2b_base64(packed + "==").hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
