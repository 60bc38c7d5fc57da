"""How every operation is decided: ARCHITECTURE.md, "What each operation decides", in plain Python.

The apply script decides the same in Lua. This file shares no code and no table with it on purpose: two
implementations that agree on every entry are the check that neither is wrong.

Entries of older rules (`domain/entry.py`) are decided again by the rules of their time.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from wallet_engine.domain import oracle_groups, oracle_holds, oracle_returns
from wallet_engine.domain.entry import RULES
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.ids import TRANSIT
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.oracle_batch import Batch
from wallet_engine.domain.oracle_memory import credit_in, field_of_transfer, fingerprint_of, place_of_credit
from wallet_engine.domain.oracle_state import ACTIVE, CLOSED, FROZEN, Flags, PartitionState

_STATUS_AFTER: Final = {"freeze": FROZEN, "unfreeze": ACTIVE, "close": CLOSED}
_flags_match: Final = re.compile(r"(freeze|unfreeze|close|closing)|(close|reopen)\.([0-9]+)").fullmatch


def _transfer(batch: Batch, index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    field, fingerprint = (
        field_of_transfer(a, id_),
        fingerprint_of(a, f"{b} {amount} {currency}", batch.note),
    )
    repeated = batch.answered(index, field, fingerprint)
    if repeated is not None:
        return repeated
    outcome = batch.post(a, b, amount, currency)
    batch.remember(field, outcome, fingerprint, index)
    return outcome


def _debit(batch: Batch, index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    field, fingerprint = (
        field_of_transfer(a, id_),
        fingerprint_of(a, f"{b} {amount} {currency}", batch.note),
    )
    repeated = batch.answered(index, field, fingerprint)
    if repeated is not None:
        return repeated
    outcome = batch.post(a, TRANSIT, amount, currency)
    batch.remember(field, outcome, fingerprint, index)
    if outcome == "+":
        batch.debited = True
    return outcome


def _credit(batch: Batch, index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    field, mark = place_of_credit(id_, b)
    received = batch.current.get(field, "")
    if credit_in(received, mark) or credit_in(batch.previous.get(field, ""), mark):
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
    batch.rewrite(field_of_transfer(a, id_), decline, int(seq_text), idx)
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
    _keep_place(batch, index, a)
    return "+"


def _keep_place(batch: Batch, index: int, a: str) -> None:
    """Record where an account's metadata are, if the operation has any; rules before 4 did not record it."""
    if batch.note and batch.rules > 3:
        batch.noted[a] = f"{batch.seq}.{index}"


def _set_limits(batch: Batch, index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    overdraft, most = (None if word == "-" else int(word) for word in b.split("|"))
    if not all(0 <= minor <= AMOUNT_MINOR_MAX for minor in (overdraft or 0, most or 0)):
        raise ValueError(f"limits {b}")
    if a not in batch.balances.get(currency, {}):
        return "a"
    flags = batch.flags.get(a) or Flags()
    if flags.status == CLOSED:
        return "c"
    _keep_place(batch, index, a)
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
    "m": oracle_groups.pay,
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

    `recorded` are the outcomes in the entry; some entries of rules 1 cannot be decided again without them.

    The state moves on by one entry when an operation has an effect, and stays as it was when none has. The
    caller sets nonce and epoch. Raises `Corruption` for an operation that makes no sense, and when the new
    balances break G2, G3 or G12; the state is then inconsistent and must be thrown away.
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
    """Whether the outcomes change anything; only then the batch becomes an entry.

    A decline counts if it is remembered: for transfers, debits, credits, holds, captures, refunds and groups.
    """
    return "+" in outcomes or any(
        outcome not in "=!bsn" and operation.kind in "tdchikqxzmg"
        for operation, outcome in zip(operations, outcomes, strict=True)
    )


def _audit(state: PartitionState, batch: Batch) -> None:
    """Check all balances that the entry wrote, independent of the rule that wrote them.

    Their sum is unchanged (G2), and each is within its bounds (G12) and not under its limit (G3).
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
