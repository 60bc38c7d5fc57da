"""One operation being folded, and the facts that its rule adds."""

from dataclasses import replace
from typing import Any, Final

from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.ids import TRANSIT
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import WIRE_CODES, Outcome
from wallet_engine.history.book import Book, Standing
from wallet_engine.history.facts import (
    DECLINED,
    DEPOSIT,
    SUCCESS,
    TRANSFER,
    WITHDRAWAL,
    End,
    Facts,
    HoldChange,
    HoldState,
    Origin,
    Transfer,
    new_posting,
)

APPLIED: Final = Outcome.APPLIED.value
DECLINES: Final = frozenset(outcome.value for outcome in Outcome if outcome.declined)
_BANK: Final = "@bank"


def type_of(payer: str, receiver: str) -> str:
    """The type of a transfer: from the bank it is a deposit, to the bank a withdrawal."""
    if _is_bank(payer) and receiver[:1] != "@":
        return DEPOSIT
    if _is_bank(receiver) and payer[:1] != "@":
        return WITHDRAWAL
    return TRANSFER


def _is_bank(account: str) -> bool:
    return account == _BANK or account.startswith(f"{_BANK}:")


class Step:
    """One operation being folded."""

    __slots__ = ("at_ms", "book", "facts", "idx", "operation", "outcome", "partition", "rules", "seq", "sub")

    def __init__(
        self,
        partition: int,
        seq: int,
        idx: int,
        at_ms: int,
        operation: Operation,
        outcome: str,
        book: Book,
        facts: Facts,
        rules: int,
    ) -> None:
        """`rules`: those that decided the operation (`domain/entry.py`)."""
        self.partition = partition
        self.seq = seq
        self.idx = idx
        self.at_ms = at_ms
        self.operation = operation
        self.outcome = outcome
        self.book = book
        self.facts = facts
        self.rules = rules
        self.sub = 0

    @property
    def origin(self) -> Origin:
        return Origin(self.partition, self.seq, self.idx)

    @property
    def applied(self) -> bool:
        return self.outcome == APPLIED

    @property
    def declined(self) -> bool:
        return self.outcome in DECLINES

    def post(
        self,
        account: str,
        currency: str,
        type_: str,
        *,
        delta: int = 0,
        held: int = 0,
        pending: int = 0,
        status: str = SUCCESS,
        transaction: str = "",
        counterparty: str = "",
        origin: Origin | None = None,
        note: str = "",
        code: str = "",
        amount: int = 0,
    ) -> None:
        """Change the account's standing by these amounts, and add the posting."""
        if account == TRANSIT:
            return
        standing = self.book.standing(account, currency)
        standing.balance += delta
        standing.held += held
        standing.pending += pending
        if standing.held < 0 or standing.pending < 0:
            raise Corruption(f"entry {self.partition}.{self.seq}: {account} has {standing!r} of {currency}")
        # fmt: off
        words = (
            self.partition, self.seq, self.idx, self.sub, self.at_ms, account, currency, delta,
            standing.balance, standing.held, standing.pending,
            type_, status, transaction, counterparty, origin or self.origin,
            note, self.operation.by, code, amount,
        )
        # fmt: on
        self.facts.postings.append(new_posting(words))
        self.sub += 1

    def begin(
        self,
        type_: str,
        receiver: str,
        status: str,
        hold: str = "",
        refunds: tuple[str, str, int, str] | None = None,
    ) -> None:
        """Add the transfer that the operation begins. A declined one is also posted to its payer."""
        _, id_, account, _, amount, currency, note, by = self.operation
        code = WIRE_CODES[self.outcome] if status == DECLINED else ""
        self.facts.transfers.append(
            Transfer(
                *(self.origin, self.at_ms, id_, type_, account, receiver, amount, currency, status, code),
                *(note, by, hold, refunds),
            )
        )
        if status == DECLINED and (account, currency) in self.book.standings:
            said: dict[str, Any] = {"transaction": id_, "counterparty": receiver, "note": note, "code": code}
            self.post(account, currency, type_, status=DECLINED, amount=amount, **said)

    def hold_changed(self, what: str, amount: int, hold: HoldState) -> None:
        self.facts.holds.append(
            HoldChange(
                *(self.partition, self.seq, self.idx, self.at_ms, what, amount),
                *(replace(hold), self.operation.by),
            )
        )


def undone(step: Step) -> tuple[Origin, str]:
    """The origin of the transfer that an operation undoes, and the code of the reason. Adds its `End`."""
    _, _, account, other, _, currency, _, _ = step.operation
    # The returned money proves that the account exists.
    step.book.standings.setdefault((account, currency), Standing())
    seq, idx, decline = other.partition("|")[0].split(".")
    origin, code = Origin(step.partition, int(seq), int(idx)), WIRE_CODES[decline]
    step.facts.ends.append(End(origin, DECLINED, code, step.at_ms, step.partition, step.seq, step.idx))
    return origin, code
