"""What the apply script decides about one operation: one character each, and what the outside calls it.

This table is the only source. `lua/lib/outcomes.lua` states the same characters for the scripts, and
`tests/unit/test_outcomes.py` fails when the two differ.
"""

from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of one operation; the value is the character recorded in the entry.

    Declared in the order in which refusals take precedence (design.md section 5): an operation that
    could be refused for two reasons is refused for the one declared first.
    """

    APPLIED = "+"
    #: Nothing to do: the operation, or its effect, was there already. Changes nothing.
    REPEATED = "="
    #: The same transaction id with another body. Changes nothing and is not remembered.
    CONFLICT = "!"
    UNKNOWN_ACCOUNT = "a"
    CLOSED = "c"
    FROZEN = "f"
    INSUFFICIENT_FUNDS = "i"
    BALANCE_LIMIT = "l"
    BALANCE_NOT_ZERO = "z"
    #: Something may still come back to the account, or it is not frozen by this very close any more.
    OPERATIONS_PENDING = "p"

    @property
    def declined(self) -> bool:
        """A decision against the operation that is remembered as its answer."""
        return self in _DECLINES


_DECLINES = frozenset(
    {
        Outcome.UNKNOWN_ACCOUNT,
        Outcome.CLOSED,
        Outcome.FROZEN,
        Outcome.INSUFFICIENT_FUNDS,
        Outcome.BALANCE_LIMIT,
        Outcome.BALANCE_NOT_ZERO,
        Outcome.OPERATIONS_PENDING,
    }
)

#: Outcome -> stable code of the HTTP contract (design.md section 11).
WIRE_CODES: dict[str, str] = {
    Outcome.CONFLICT: "idempotency_conflict",
    Outcome.UNKNOWN_ACCOUNT: "account_not_found",
    Outcome.CLOSED: "account_closed",
    Outcome.FROZEN: "account_frozen",
    Outcome.INSUFFICIENT_FUNDS: "insufficient_funds",
    Outcome.BALANCE_LIMIT: "balance_limit",
    Outcome.BALANCE_NOT_ZERO: "balance_not_zero",
    Outcome.OPERATIONS_PENDING: "operations_pending",
}
