"""The outcomes of an operation in the apply script: one character each, and its name outside.

This table is the only source. `lua/lib/outcomes.lua` states the same characters for the scripts, and
`tests/unit/domain/test_outcomes.py` fails when the two differ.
"""

from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of one operation; the value is the character recorded in the entry.

    Declared in the order in which refusals take precedence: an operation that
    could be refused for two reasons is refused for the one declared first.
    """

    APPLIED = "+"
    #: Nothing to do: the operation, or its effect, already happened. Changes nothing.
    REPEATED = "="
    #: The same transaction id with another body. Changes nothing and is not remembered.
    CONFLICT = "!"
    UNKNOWN_ACCOUNT = "a"
    CLOSED = "c"
    FROZEN = "f"
    INSUFFICIENT_FUNDS = "i"
    BALANCE_LIMIT = "l"
    BALANCE_NOT_ZERO = "z"
    #: Money may still come back to the account, or this close no longer keeps it frozen.
    OPERATIONS_PENDING = "p"
    HOLD_NOT_FOUND = "h"
    HOLD_NOT_OPEN = "o"
    HOLD_EXPIRED = "x"
    #: A final capture of the hold is under way. Changes nothing and is not remembered.
    HOLD_BUSY = "b"
    DESTINATION_MISMATCH = "d"
    AMOUNT_EXCEEDS_HOLD = "e"
    HOLD_LIMIT = "m"
    #: The partition does not remember the original of a refund (any more). Changes nothing and is not
    #: remembered.
    TRANSFER_FORGOTTEN = "n"
    REFUND_EXCEEDS = "r"
    #: The state that the service built the operation on has changed: it reads again. Changes nothing, not
    #: remembered.
    STALE = "s"
    #: The home decided that this attempt of a group is void; if the caller repeats the group, another attempt
    #: begins.
    INTERRUPTED = "u"
    #: As `UNKNOWN_ACCOUNT`, `CLOSED` and `FROZEN`, but for the receiver. The payer's refusal takes
    #: precedence.
    RECEIVER_UNKNOWN = "g"
    RECEIVER_CLOSED = "k"
    RECEIVER_FROZEN = "q"

    @property
    def declined(self) -> bool:
        """Whether it is a decision against the operation that is remembered as its answer."""
        return self in _DECLINES

    @property
    def of_receiver(self) -> bool:
        """Whether the receiver's state caused the decline; the payer has outcomes of its own for that."""
        return self in (Outcome.RECEIVER_UNKNOWN, Outcome.RECEIVER_CLOSED, Outcome.RECEIVER_FROZEN)


_DECLINES = frozenset(
    {
        Outcome.UNKNOWN_ACCOUNT,
        Outcome.CLOSED,
        Outcome.FROZEN,
        Outcome.INSUFFICIENT_FUNDS,
        Outcome.BALANCE_LIMIT,
        Outcome.BALANCE_NOT_ZERO,
        Outcome.OPERATIONS_PENDING,
        Outcome.HOLD_NOT_FOUND,
        Outcome.HOLD_NOT_OPEN,
        Outcome.HOLD_EXPIRED,
        Outcome.DESTINATION_MISMATCH,
        Outcome.AMOUNT_EXCEEDS_HOLD,
        Outcome.HOLD_LIMIT,
        Outcome.REFUND_EXCEEDS,
        Outcome.RECEIVER_UNKNOWN,
        Outcome.RECEIVER_CLOSED,
        Outcome.RECEIVER_FROZEN,
    }
)

#: Outcome -> stable code of the HTTP contract.
WIRE_CODES: dict[str, str] = {
    Outcome.CONFLICT: "idempotency_conflict",
    Outcome.UNKNOWN_ACCOUNT: "account_not_found",
    Outcome.CLOSED: "account_closed",
    Outcome.FROZEN: "account_frozen",
    Outcome.INSUFFICIENT_FUNDS: "insufficient_funds",
    Outcome.BALANCE_LIMIT: "balance_limit",
    Outcome.BALANCE_NOT_ZERO: "balance_not_zero",
    Outcome.OPERATIONS_PENDING: "operations_pending",
    Outcome.HOLD_NOT_FOUND: "hold_not_found",
    Outcome.HOLD_NOT_OPEN: "hold_not_open",
    Outcome.HOLD_EXPIRED: "hold_expired",
    Outcome.HOLD_BUSY: "hold_busy",
    Outcome.DESTINATION_MISMATCH: "destination_mismatch",
    Outcome.AMOUNT_EXCEEDS_HOLD: "amount_exceeds_hold",
    Outcome.HOLD_LIMIT: "hold_limit",
    Outcome.TRANSFER_FORGOTTEN: "transfer_not_found",
    Outcome.REFUND_EXCEEDS: "refund_exceeds",
    Outcome.RECEIVER_UNKNOWN: "account_not_found",
    Outcome.RECEIVER_CLOSED: "account_closed",
    Outcome.RECEIVER_FROZEN: "account_frozen",
}
