"""What the HTTP layer may ask of the wallet: the types that cross that boundary.

Ids and amounts in here are already validated; amounts are minor units. A refusal is a value, an outage is
`domain.errors.Outage`.
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, Protocol

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.group_commands import GroupAnswer, GroupCommand, GroupView
from wallet_engine.domain.hold_commands import CaptureCommand, HoldCommand, IncreaseCommand
from wallet_engine.domain.holds import Hold
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.refund_command import Original, RefundCommand
from wallet_engine.domain.transfer import TransferCommand

__all__ = [
    "ANSWER_TIMEOUT_S",
    "NO_MOST",
    "OF_RECEIVER",
    "AccountView",
    "BalanceView",
    "ConditionView",
    "CurrencyBalance",
    "GroupAnswer",
    "GroupCommand",
    "GroupView",
    "HoldAnswer",
    "LimitsCommand",
    "Money",
    "Readiness",
    "RefundAnswer",
    "TransferAnswer",
    "TransferCommand",
    "Wallet",
    "outage_detail",
]

ReadyStatus = Literal["ready", "degraded", "unready"]

#: How long a caller waits at most. Its request goes on; a retry with the same id gets its result.
ANSWER_TIMEOUT_S: Final = 15.0
#: Suffix of an outage code among the results of transfers: the receiver's partition refuses.
OF_RECEIVER: Final = " of the receiver"

_OUTAGE_DETAILS: Final = {
    "overloaded": "too much is on its way: nothing was done, retry it with the same id",
    "partition_unavailable": "the {side}'s partition is not served now: nothing was done, retry it with the same id",
    "journal_unavailable": "the {side}'s partition waits for the journal: nothing was done, retry it with the same id",
}


def outage_detail(result: str) -> str:
    """The text for a transfer without an outcome; `result` is a code, maybe with `OF_RECEIVER`."""
    code, of_receiver, _ = result.partition(OF_RECEIVER)
    told = _OUTAGE_DETAILS.get(code, "the transfer is not confirmed: retry it with the same id")
    return told.format(side="receiver" if of_receiver else "payer")


class TransferAnswer(NamedTuple):
    """`outcome` is an `Outcome` character: `+` paid, a decline, or `!` conflict."""

    outcome: str
    replayed: bool
    #: `<p>.<seq>` of the last entry of the transfer; empty if it is not known.
    position: str = ""


class Money(NamedTuple):
    """An account's money in one currency, in minor units. Pending money does not belong to it yet."""

    available_minor: int
    held_minor: int = 0
    pending_minor: int = 0

    @property
    def balance_minor(self) -> int:
        return self.available_minor + self.held_minor


#: The largest balance of any account. As an account's maximum balance it means no limit.
NO_MOST: Final = AMOUNT_MINOR_MAX


class CurrencyBalance(NamedTuple):
    currency: str
    money: Money
    overdraft_limit_minor: int
    #: Maximum balance of the account; None if it has no such limit.
    max_balance_minor: int | None = None


class LimitsCommand(NamedTuple):
    """Change an account's limits in one currency; None leaves one as it is, `NO_MOST` removes the maximum."""

    account_id: str
    currency: str
    overdraft_limit_minor: int | None
    max_balance_minor: int | None
    note: str = ""


class AccountView(NamedTuple):
    """`status` is `active`, `frozen` or `closed`; balances are ordered by currency."""

    account_id: str
    status: str
    balances: tuple[CurrencyBalance, ...]
    #: None if the account never had any, or they cannot be read now.
    metadata: dict[str, str] | None = None


class BalanceView(NamedTuple):
    """A durable balance. `partition` and `seq` are None for a system account: it has a stripe in each."""

    money: Money
    partition: int | None
    seq: int | None


class ConditionView(NamedTuple):
    """A condition that stops transfers. `partitions` is None if it stops all of them."""

    condition: str
    partitions: tuple[int, ...] | None
    detail: str


class Readiness(NamedTuple):
    """`status` is `ready`, `degraded` when only some partitions take transfers, or `unready` when none does."""

    status: ReadyStatus
    reason: str
    conditions: tuple[ConditionView, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether callers may be sent to this service."""
        return self.status != "unready"


class HoldAnswer(NamedTuple):
    """`outcome` is an `Outcome` character; with `+` and `=` the answer has the hold."""

    outcome: str
    replayed: bool
    hold: Hold | None = None


class RefundAnswer(NamedTuple):
    """`code` is that of the refusal, empty when the money went back.

    The others say how much of the original is refunded by now, and how much still can be, in minor units.
    """

    code: str
    replayed: bool = False
    returned_minor: int = 0
    refundable_minor: int = 0
    currency: str = ""
    #: For a refusal: whether the account that would get the money back caused it.
    back: bool = False


class Wallet(Protocol):
    """Every method may raise `Outage`."""

    async def open_account(
        self,
        account_id: str,
        currency: str,
        overdraft_limit_minor: int | None,
        by: str = "",
        max_balance_minor: int | None = None,
        note: str = "",
    ) -> tuple[str, AccountView | None]:
        """For the key `by`.

        Outcome `+` created, `=` was there; `!` when it was there with another limit, or a decline (no view).
        """
        ...

    async def set_limits(self, command: LimitsCommand, by: str = "") -> tuple[str, AccountView | None]:
        """For the key `by`. Outcome `+` or `=` with the account, else a decline."""
        ...

    async def account(self, account_id: str) -> AccountView | None: ...

    async def balance(self, account_id: str, currency: str) -> BalanceView | None: ...

    async def set_flags(self, account_id: str, action: str, by: str = "") -> tuple[str, AccountView | None]:
        """For the key `by`: freeze, unfreeze or close. Outcome `+` or `=` with the account, else a decline."""
        ...

    async def transfer(self, command: TransferCommand) -> TransferAnswer:
        """Make one transfer.

        Cancelling this call or `transfer_many` ends only the wait, not the transfers.
        """
        ...

    def begin_transfer(
        self, command: TransferCommand, answer: Callable[[TransferAnswer | Outage], None]
    ) -> None:
        """`transfer` without a task: calls `answer` once, with what `transfer` returns or raises."""
        ...

    async def transfer_many(self, commands: Sequence[TransferCommand]) -> list[str]:
        """One string per command, in order: an `Outcome` character, or the code of an outage for this one, with
        `OF_RECEIVER` behind it where it is that of the receiver's partition.

        Raises `Outage` only when none of the transfers was accepted.
        """
        ...

    async def find_transfer(self, from_account: str, transaction: str) -> str | None:
        """`+`, a decline's character, `~` while pending, `R` for a refund that was made, None when not known."""
        ...

    async def request_of(self, from_account: str, transaction: str) -> Operation | None:
        """The operation requested under this id, from the journal; None when it is no longer known."""
        ...

    async def transfer_group(self, command: GroupCommand) -> GroupAnswer:
        """Make all transfers of the group, or none.

        Raises `InvalidInput` if it reaches too many partitions.
        """
        ...

    async def find_group(self, from_account: str, transaction: str) -> GroupView | None:
        """The group under this id. None also if the id belongs to another kind of transfer."""
        ...

    async def place_hold(self, command: HoldCommand) -> HoldAnswer: ...

    async def increase_hold(self, command: IncreaseCommand) -> HoldAnswer: ...

    async def capture_hold(self, command: CaptureCommand) -> HoldAnswer:
        """Raises `InvalidInput` when no receiver is named, or the amount does not fit the hold's currency."""
        ...

    async def void_hold(self, account_id: str, hold: str, by: str = "") -> HoldAnswer: ...

    async def hold(self, account_id: str, hold: str) -> Hold | None:
        """`hold` is the packed id."""
        ...

    async def original(self, from_account: str, transaction: str, leg: int | None) -> Original | str:
        """The transfer to refund, or the code of the reason why not.

        Raises `InvalidInput` for a wrong leg.
        """
        ...

    async def refund(self, command: RefundCommand, original: Original) -> RefundAnswer:
        """Raises `InvalidInput` when the amount does not fit the original's currency."""
        ...

    def readiness(self) -> Readiness:
        """What stops transfers, here or in some partitions. Answers without waiting."""
        ...
