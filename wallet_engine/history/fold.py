"""Makes facts from entries: a light fold over little running state. It decides nothing.

The fold trusts recorded outcomes; `verify` and the oracle check them. The effect of an operation on a balance
often depends on earlier state (how much remains of a hold that ends), so the fold keeps a `Book` of each
partition. Before it folds an entry, the caller fills the book from its own rows with what `wanted` names;
before the first entry the book is empty.

It makes no facts about `@transit`: money there belongs to a `pending` transfer.
"""

from collections.abc import Callable
from typing import Any, Final

from wallet_engine.domain import returns
from wallet_engine.domain.entry import Entry, check_rules
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.kinds import kind_of
from wallet_engine.history import fold_groups, fold_holds
from wallet_engine.history.book import Book
from wallet_engine.history.facts import (
    DECLINED,
    OPENED,
    PENDING,
    REFUND,
    REVERSAL,
    SUCCESS,
    TRANSFER,
    AccountChange,
    Facts,
    new_end,
    new_origin,
    new_posting,
    new_transfer,
)
from wallet_engine.history.step import APPLIED, Step, type_of, undone


def fold(partition: int, entry: Entry, book: Book, facts: Facts) -> None:
    """Add the facts of the partition's next entry.

    Raises `Corruption` for an operation that this version does not know, or that contradicts the book.
    """
    header = entry.header
    check_rules(header)
    seq, at_ms, postings = header.seq, header.time_ms, facts.postings
    standings = book.standings
    for idx, (operation, outcome) in enumerate(zip(entry.operations, header.outcomes, strict=True)):
        kind = operation[0]
        if kind == "c":
            if outcome != APPLIED:
                continue
            _, id_, account, other, amount, currency, _, by = operation
            p, _, s = id_.partition(".")
            origin = new_origin((int(p), int(s), int(other), 0))
            standing = standings.get((account, currency)) or book.standing(account, currency)
            standing.balance += amount
            # fmt: off
            words = (
                partition, seq, idx, 0, at_ms, account, currency, amount,
                standing.balance, standing.held, standing.pending,
                "", SUCCESS, "", "", origin, "", by, "", 0,
            )
            # fmt: on
            postings.append(new_posting(words))
            facts.ends.append(new_end((origin, SUCCESS, "", at_ms, partition, seq, idx)))
        elif kind == "d" and outcome == APPLIED:
            _, id_, account, other, amount, currency, note, by = operation
            origin = new_origin((partition, seq, idx, 0))
            type_ = TRANSFER if account[0] != "@" != other[0] else type_of(account, other)
            standing = standings.get((account, currency)) or book.standing(account, currency)
            standing.balance -= amount
            # fmt: off
            words = (
                partition, seq, idx, 0, at_ms, account, currency, -amount,
                standing.balance, standing.held, standing.pending,
                type_, PENDING, id_, other, origin, note, by, "", 0,
            )
            # fmt: on
            postings.append(new_posting(words))
            # fmt: off
            begun = (
                origin, at_ms, id_, type_, account, other, amount, currency, PENDING, "", note, by, "", None,
            )
            # fmt: on
            facts.transfers.append(new_transfer(begun))
        elif kind != "s":
            rule = _RULES.get(kind)
            if rule is None:
                kind_of(kind)
                raise Corruption(f"entry {seq}: nothing is said of {kind!r} to history")
            rule(Step(partition, seq, idx, at_ms, operation, outcome, book, facts, header.rules))


def _transfer(step: Step) -> None:
    _, id_, account, other, amount, currency, note, _ = step.operation
    type_ = type_of(account, other)
    if step.declined:
        step.begin(type_, other, DECLINED)
    elif step.applied:
        local = step.operation.kind == "t"
        status = SUCCESS if local else PENDING
        step.begin(type_, other, status)
        said: dict[str, Any] = {"status": status, "transaction": id_, "note": note}
        step.post(account, currency, type_, delta=-amount, counterparty=other, **said)
        if local:
            step.post(other, currency, type_, delta=amount, counterparty=account, **said)


def _refund(step: Step) -> None:
    """Fold the return of a refused credit, also of a refund's credit."""
    if not step.applied:
        return
    operation = step.operation
    origin, code = undone(step)
    step.post(
        *(operation.account, operation.currency, REVERSAL),
        delta=operation.amount_minor,
        status=DECLINED,
        transaction=operation.id,
        origin=origin,
        code=code,
    )


def _open_account(step: Step) -> None:
    if not step.applied:
        return
    _, _, account, other, _, currency, note, by = step.operation
    overdraft, named, most = other.partition("<")
    step.book.opened(account, currency)
    step.post(account, currency, OPENED, note=note)
    limits = (None if overdraft == "-" else int(overdraft), int(most) if named else None)
    _account(step, "opened", currency, limits, note, by)


def _account(
    step: Step, what: str, currency: str, limits: tuple[int | None, int | None], note: str, by: str
) -> None:
    place = (step.partition, step.seq, step.idx, step.at_ms)
    step.facts.accounts.append(
        AccountChange(*place, what, step.operation.account, currency, *limits, note, by)
    )


def _set_limits(step: Step) -> None:
    if step.applied:
        overdraft, most = (None if word == "-" else int(word) for word in step.operation.other.split("|"))
        operation = step.operation
        _account(step, "updated", operation.currency, (overdraft, most), operation.note, operation.by)


_FLAGGED: Final = {"freeze": "frozen", "unfreeze": "unfrozen", "closing": "", "reopen": "", "close": "closed"}


def _set_flags(step: Step) -> None:
    what = _FLAGGED[step.operation.other.partition(".")[0]] if step.applied else ""
    if what:
        _account(step, what, "", (None, None), step.operation.note, step.operation.by)


def _probe(step: Step) -> None:
    pass


def _return(step: Step) -> None:
    kind, id_, account, other, amount, currency, note, _ = step.operation
    original = returns.parse_evidence(other)
    refunds = (original.payer, original.transaction, original.leg or 0, original.place)
    if step.declined:
        step.begin(REFUND, original.payer, DECLINED, refunds=refunds)
    if not step.applied:
        return
    here = kind == "x"
    status = SUCCESS if here else PENDING
    step.begin(REFUND, original.payer, status, refunds=refunds)
    said: dict[str, Any] = {"status": status, "transaction": id_, "note": note}
    step.post(account, currency, REFUND, delta=-amount, counterparty=original.payer, **said)
    if here:
        step.post(original.payer, currency, REFUND, delta=amount, counterparty=account, **said)


_RULES: Final[dict[str, Callable[[Step], None]]] = {
    "o": _open_account,
    "t": _transfer,
    "d": _transfer,
    "r": _refund,
    "f": _set_flags,
    "a": _set_limits,
    "n": _probe,
    "h": fold_holds.place_hold,
    "i": fold_holds.increase,
    "k": fold_holds.capture,
    "q": fold_holds.capture,
    "u": fold_holds.uncapture,
    "l": fold_holds.end_hold,
    "v": fold_holds.end_hold,
    "e": fold_holds.end_hold,
    "x": _return,
    "z": _return,
    "j": _refund,
    "m": fold_groups.decide_group,
    "g": fold_groups.decide_group,
    "p": fold_groups.part_of_group,
    "y": fold_groups.part_of_group,
    "b": fold_groups.part_of_group,
    "w": _probe,
}
