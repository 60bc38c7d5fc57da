"""How every operation is decided: ARCHITECTURE.md, "Semantics of the operations", in plain Python.

The apply script decides the same in Lua. This file shares no code and no table with it on purpose: two
implementations that agree on every entry are the check that neither is wrong.

One posting explains all three ways in which money moves: a debit is a transfer to `@transit`, a credit is a
transfer from it, because a system account exists always and is never closed, frozen or out of funds.

What rules 1 decided otherwise (`domain/entry.py`) is decided so again in entries of theirs.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Final

from wallet_engine.domain import oracle_groups, oracle_holds, oracle_returns
from wallet_engine.domain.entry import RULES
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.ids import TRANSIT
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX, STRIPE_LIMB_MINOR
from wallet_engine.domain.memory import (
    PAYER_LENGTH,
    TransferRecord,
    credit_memory,
    credit_outcome,
    transfer_field,
    transfer_fingerprint,
)
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.oracle_state import ACTIVE, CLOSED, FROZEN, Flags, PartitionState

_STATUS_AFTER: Final = {"freeze": FROZEN, "unfreeze": ACTIVE, "close": CLOSED}
_flags_match: Final = re.compile(r"(freeze|unfreeze|close|closing)|(close|reopen)\.([0-9]+)").fullmatch


class Batch:
    """The operations of one entry being decided, over the state they change in place."""

    __slots__ = (
        "balances",
        "carried",
        "current",
        "debited",
        "due",
        "flags",
        "groups",
        "held",
        "holds",
        "lowered",
        "note",
        "open",
        "pending",
        "previous",
        "recorded",
        "rules",
        "seq",
        "settled",
        "shifted",
        "time_ms",
        "touched",
    )

    def __init__(
        self, state: PartitionState, window: int, time_ms: int, rules: int = RULES, recorded: str = ""
    ) -> None:
        self.seq = state.seq + 1
        self.rules = rules
        #: Outcomes in the entry; nothing but what only those of before can say is taken from them.
        self.recorded = recorded
        self.time_ms = time_ms
        self.held, self.pending = state.held, state.pending
        self.holds, self.due = state.holds, state.due
        self.groups = state.groups
        #: currency -> minor units that went to what is held or pending, or came from there
        self.shifted: dict[str, int] = {}
        self.balances = state.balances
        self.carried = state.carried
        self.flags = state.flags
        self.open = state.open
        #: Entries that were open before this one.
        self.settled: set[int] = set()
        #: The dedupe memory that new answers go to, and the older one that is still consulted.
        self.current: dict[str, str] = state.seen[window] if window == state.window else {}
        self.previous = state.seen[window - 1]
        #: (account, currency) whose overdraft limit this entry lowers: what it had fallen to may be less.
        self.lowered: set[tuple[str, str]] = set()
        #: Of the operation that is being decided.
        self.note = ""
        #: Whether money left with this entry; it joins `open` when it is whole.
        self.debited = False
        #: currency -> account -> balance before this entry, of every account whose balance was written
        self.touched: dict[str, dict[str, int]] = {}

    def nothing_comes_back(self, closing: tuple[str, str] | None, since: str | None) -> bool:
        """Whether no refund can reach an account any more: no entry that was open before this one may hold its debit.

        An account that has been frozen since an entry has debits in those up to it alone.
        """
        before = self.open.keys() | self.settled
        if since is None:
            return not before and not self.debited
        return closing is not None and closing[1] == since and all(seq > int(since) for seq in before)

    def move(self, payer: str, paid: int, payee: str, got: int, amount: int, currency: str) -> None:
        """Write two balances; `paid` and `got` are what the rule found."""
        touched = self.touched.get(currency)
        if touched is None:
            touched = self.touched[currency] = {}
        book = self.balances.get(currency)
        if book is None:
            book = self.balances[currency] = {}
        if payer not in touched:
            touched[payer] = book.get(payer, 0)
        if payee not in touched:
            touched[payee] = book.get(payee, 0)
        left = book[payer] = paid - amount
        full = book[payee] = got + amount
        if self.carried or left < -AMOUNT_MINOR_MAX or full > AMOUNT_MINOR_MAX:
            self._carry(payer, left, currency)
            self._carry(payee, full, currency)

    def add(self, account: str, currency: str, delta: int) -> None:
        """Write one balance; what goes there comes from what is held or pending, or from another such call."""
        book = self.balances.setdefault(currency, {})
        before = book.get(account, 0)
        self.touched.setdefault(currency, {}).setdefault(account, before)
        book[account] = before + delta
        self._carry(account, before + delta, currency)

    def shift(self, books: dict[str, dict[str, int]], account: str, currency: str, delta: int) -> None:
        """Add to what is held or pending of an account."""
        book = books.setdefault(currency, {})
        book[account] = book.get(account, 0) + delta
        if book[account] < 0:
            raise Corruption(f"entry {self.seq}: {account} has {book[account]} {currency} set aside")
        self.shifted[currency] = self.shifted.get(currency, 0) + delta

    def rewrite(self, field: str, decline: str) -> None:
        """The answer remembered there becomes a decline."""
        for window in (self.current, self.previous):
            answer = window.get(field)
            if answer is not None:
                window[field] = decline + answer[1:]
                break

    def _carry(self, account: str, minor: int, currency: str) -> None:
        """See that what a system account's own field holds of a new balance stays in the bounds of a number."""
        limbs = self.carried.get(currency, {}).get(account, 0)
        part = minor - STRIPE_LIMB_MINOR * limbs
        if account[:1] == "@" and not -AMOUNT_MINOR_MAX <= part <= AMOUNT_MINOR_MAX:
            self.carried.setdefault(currency, {})[account] = limbs + (1 if part > 0 else -1)

    def post(self, payer: str, payee: str, amount: int, currency: str) -> str:
        """Move money between two accounts of this partition, or say why not, in the order of refusals."""
        if not 0 < amount <= AMOUNT_MINOR_MAX or payer == payee:
            raise ValueError(f"{amount} from {payer} to {payee}")
        book = self.balances.get(currency)
        paid = got = None
        if book is not None:
            paid = book.get(payer)
            got = book.get(payee)
        if paid is None:
            if payer[:1] != "@":
                return "a"
            paid = 0
        if got is None:
            if payee[:1] != "@":
                return "a"
            got = 0
        payer_flags = self.flags.get(payer)
        payee_flags = self.flags.get(payee)
        if payer_flags is not None or payee_flags is not None:
            both = (payer_flags and payer_flags.status, payee_flags and payee_flags.status)
            if CLOSED in both:
                return "c"
            if FROZEN in both:
                return "f"
        left = paid - amount
        if left < 0:
            if payer[:1] == "@":
                if self.rules == 1 and left < -AMOUNT_MINOR_MAX:
                    return "l"
            elif payer_flags is None or left < -payer_flags.limits.get(currency, 0):
                return "i"
        if self.note and payer[:1] != "@" and left < json.loads(self.note).get("min", left):
            return "i"
        if got + amount > AMOUNT_MINOR_MAX and (payee[:1] != "@" or self.rules == 1):
            return "l"
        if payee_flags is not None and payee_flags.most and self.over_most(payee, currency, got + amount):
            return "l"
        self.move(payer, paid, payee, got, amount, currency)
        return "+"

    def over_most(self, account: str, currency: str, available: int) -> bool:
        """Whether an account would have more than it may, with so much available."""
        flags = self.flags.get(account)
        most = None if flags is None else flags.most.get(currency)
        if most is None:
            return False
        beside = sum(books.get(currency, {}).get(account, 0) for books in (self.held, self.pending))
        return available + beside > most

    def answered(self, index: int, field: str, fingerprint: str) -> str | None:
        """`=` or `!` when the transfer was answered before, None when it is new."""
        answer = self.current.get(field)
        if answer is None:
            answer = self.previous.get(field)
            if answer is None:
                return self._answered_another(index, field) if self.rules == 1 else None
        return "=" if TransferRecord.parse(answer).fingerprint == fingerprint else "!"

    def _answered_another(self, index: int, field: str) -> str | None:
        """By rules 1, names of one CRC-32 were one payer: what is recorded, if an answer for the id is there."""
        recorded, transaction = self.recorded[index : index + 1], field[:-PAYER_LENGTH]
        if recorded in ("=", "!"):
            for window in (self.current, self.previous):
                if any(other.startswith(transaction) for other in window):
                    return recorded
        return None


def _transfer(batch: Batch, index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    field, fingerprint = (
        transfer_field(a, id_),
        transfer_fingerprint(a, f"{b} {amount} {currency}", batch.note),
    )
    repeated = batch.answered(index, field, fingerprint)
    if repeated is not None:
        return repeated
    outcome = batch.post(a, b, amount, currency)
    batch.current[field] = TransferRecord(outcome, fingerprint, batch.seq, index).text()
    return outcome


def _debit(batch: Batch, index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    field, fingerprint = (
        transfer_field(a, id_),
        transfer_fingerprint(a, f"{b} {amount} {currency}", batch.note),
    )
    repeated = batch.answered(index, field, fingerprint)
    if repeated is not None:
        return repeated
    outcome = batch.post(a, TRANSIT, amount, currency)
    batch.current[field] = TransferRecord(outcome, fingerprint, batch.seq, index).text()
    if outcome == "+":
        batch.debited = True
    return outcome


def _credit(batch: Batch, index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    field, mark = credit_memory(id_, b)
    received = batch.current.get(field, "")
    if credit_outcome(received, mark) or credit_outcome(batch.previous.get(field, ""), mark):
        return "="
    outcome = batch.post(TRANSIT, a, amount, currency)
    batch.current[field] = f"{received}{mark}{outcome}"
    return outcome


def _refund(batch: Batch, index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    seq_text, idx_text, decline = b.split(".")
    idx = int(idx_text)
    if not 0 < amount <= AMOUNT_MINOR_MAX or a == TRANSIT:
        raise ValueError(f"{amount} back to {a}")
    refunded = batch.open.get(int(seq_text))
    if refunded is None or idx in refunded:
        return "="
    book = batch.balances.get(currency, {})
    transit, balance = book.get(TRANSIT, 0), book.get(a, 0)
    if balance + amount > AMOUNT_MINOR_MAX and (a[:1] != "@" or batch.rules == 1):
        return "l"
    if transit - amount < -AMOUNT_MINOR_MAX and batch.rules == 1:
        return "l"
    batch.move(TRANSIT, transit, a, balance, amount, currency)
    refunded.add(idx)
    batch.rewrite(transfer_field(a, id_), decline)
    return "+"


def _settle(batch: Batch, index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    seq = int(id_)
    if batch.open.pop(seq, None) is None:
        return "="
    batch.settled.add(seq)
    return "+"


def _open_account(batch: Batch, index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    overdraft, named, most_text = b.partition("<")
    limit = None if overdraft == "-" else int(overdraft)
    most = int(most_text) if named else None
    if not all(0 <= minor <= AMOUNT_MINOR_MAX for minor in (limit or 0, most or 0)):
        raise ValueError(f"limit {b}")
    flags = batch.flags.get(a)
    if a in batch.balances.get(currency, {}):
        present = 0 if flags is None else flags.limits.get(currency, 0)
        if most is not None and (flags is None or flags.most.get(currency) != most):
            return "!"
        return "=" if limit is None or limit == present else "!"
    if flags is not None and flags.status == CLOSED:
        return "c"
    batch.balances.setdefault(currency, {})[a] = 0
    if limit:
        if flags is None:
            flags = batch.flags[a] = Flags()
        flags.limits[currency] = limit
    if most is not None:
        if flags is None:
            flags = batch.flags[a] = Flags()
        flags.most[currency] = most
    return "+"


def _set_limits(batch: Batch, index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    overdraft, most = (None if word == "-" else int(word) for word in b.split("|"))
    if not all(0 <= minor <= AMOUNT_MINOR_MAX for minor in (overdraft or 0, most or 0)):
        raise ValueError(f"limits {b}")
    if a not in batch.balances.get(currency, {}):
        return "a"
    flags = batch.flags.get(a) or Flags()
    if flags.status == CLOSED:
        return "c"
    before = flags.text()
    if overdraft is not None and overdraft != flags.limits.get(currency, 0):
        if overdraft < flags.limits.get(currency, 0):
            batch.lowered.add((a, currency))
        flags.limits[currency] = overdraft
    if most is not None:
        flags.most[currency] = most
    if flags.text() == before:
        return "+" if batch.note else "="
    batch.flags[a] = flags
    return "+"


def _set_flags(batch: Batch, index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    match = _flags_match(b)
    if match is None:
        raise ValueError(b)
    verb, since = match[1] or match[2], match[3]
    balances = [book[a] for book in batch.balances.values() if a in book]
    if not balances:
        return "a"
    flags = batch.flags.get(a) or Flags()
    if flags.status == CLOSED:
        return "=" if verb == "close" else "c"
    closing, status = flags.closing, _STATUS_AFTER.get(verb, FROZEN)
    if verb == "reopen":
        if closing is None or closing[1] != since:
            return "="
        status = closing[0]
    elif verb == "close":
        if any(balances) or any(book.get(a) for book in batch.held.values()):
            return "z"
        if any(book.get(a) for book in batch.pending.values()):
            return "p"
        if batch.rules > 1 and not batch.nothing_comes_back(closing, since):
            return "p"
    elif verb != "closing" and status == flags.status and closing is None:
        return "="
    flags.closing = None
    if verb == "closing":
        flags.closing = (flags.status if closing is None else closing[0], str(batch.seq))
    flags.status = status
    batch.flags[a] = flags
    return "+"


def _probe(batch: Batch, index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    return "+"


_RULES: Final[dict[str, Callable[[Batch, int, str, str, str, int, str], str]]] = {
    "o": _open_account,
    "t": _transfer,
    "d": _debit,
    "c": _credit,
    "r": _refund,
    "s": _settle,
    "f": _set_flags,
    "a": _set_limits,
    "n": _probe,
    "h": oracle_holds.place,
    "i": oracle_holds.increase,
    "k": oracle_holds.capture,
    "q": oracle_holds.capture_debit,
    "u": oracle_holds.uncapture,
    "l": oracle_holds.finish,
    "v": oracle_holds.void,
    "e": oracle_holds.expire,
    "x": oracle_returns.give_back,
    "z": oracle_returns.give_back_debit,
    "j": oracle_returns.undo,
    "m": oracle_groups.decide,
    "p": oracle_groups.prepare,
    "g": oracle_groups.decide,
    "y": oracle_groups.commit,
    "b": oracle_groups.abort,
    "w": oracle_groups.forget,
}


def decide_operations(
    state: PartitionState,
    operations: Sequence[Operation],
    time_ms: int,
    window: int,
    rules: int = RULES,
    recorded: str = "",
) -> str:
    """Decide operations in order, by the rules of that version; returns their outcomes.

    `recorded` are the outcomes in the entry, without which some of rules 1 cannot be decided again.

    The state moves on by one entry when one of them has an effect and is untouched when none has. Nonce and
    epoch are the caller's. Raises `Corruption` for one that makes no sense, and when the balances
    written break G2, G3 or G12; the state is then in pieces and must be thrown away.
    """
    if window != state.window and (window != state.window + 1 or state.seq == 0):
        raise Corruption(f"entry {state.seq + 1}: window {window} follows window {state.window}")
    batch = Batch(state, window, time_ms, rules, recorded)
    outcomes = ""
    for index, operation in enumerate(operations):
        kind, id_, a, b, amount, currency, batch.note, _ = operation
        try:
            outcomes += _RULES[kind](batch, index, id_, a, b, amount, currency)
        except (ValueError, LookupError) as error:
            text = f"entry {batch.seq}: operation {index} is malformed: {operation.line()[:200]!r} ({error})"
            raise Corruption(text) from None
    if has_effect(operations, outcomes):
        _audit(state, batch)
        _advance(state, batch, time_ms, window)
    return outcomes


def has_effect(operations: Sequence[Operation], outcomes: str) -> bool:
    """Whether the outcomes change anything: the batch becomes an entry only then.

    A decline counts where it is remembered: of a transfer, debit, credit or group.
    """
    return "+" in outcomes or any(
        outcome not in "=!bsn" and operation.kind in "tdchikqxzmg"
        for operation, outcome in zip(operations, outcomes, strict=True)
    )


def _audit(state: PartitionState, batch: Batch) -> None:
    """Look at the balances the entry wrote, whatever rule wrote them.

    They sum to what they were (G2), each in its bounds (G12) and not under its limit (G3).
    """
    for currency, touched in batch.touched.items():
        book = state.balances[currency]
        delta = batch.shifted.pop(currency, 0)
        for account, before in touched.items():
            after = book[account]
            delta += after - before
            if after < 0 or after > AMOUNT_MINOR_MAX:
                fell = after < before and (account, currency) not in batch.lowered
                state.check_balance(account, currency, after, fell=fell)
        if delta:
            raise Corruption(f"entry {batch.seq}: books of {currency} sum to {delta}")
    if any(batch.shifted.values()):
        raise Corruption(f"entry {batch.seq}: set aside or pending, and no balance changed: {batch.shifted}")


def _advance(state: PartitionState, batch: Batch, time_ms: int, window: int) -> None:
    state.seq = batch.seq
    if batch.debited:
        state.open[batch.seq] = set()
    state.clock = time_ms
    if window != state.window:
        state.seen = {window - 1: batch.previous, window: batch.current}
        state.window = window
        state.witnessed_s = 0
