"""How refunds are decided, in plain Python. A part of `oracle_rules.py`, also independent of `lua/`."""

from typing import TYPE_CHECKING

from wallet_engine.domain import holds, returns
from wallet_engine.domain.groups import COMMITTED, REMEMBERED
from wallet_engine.domain.ids import TRANSIT
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX
from wallet_engine.domain.oracle_memory import (
    answer_text,
    credit_in,
    field_of_transfer,
    fingerprint_in,
    fingerprint_of,
    place_of_credit,
)
from wallet_engine.domain.returns import Evidence, parse_evidence

if TYPE_CHECKING:
    from wallet_engine.domain.oracle_batch import Batch


def give_back(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    return _give_back(batch, index, "x", id_, a, b, amount, currency)


def give_back_debit(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    return _give_back(batch, index, "z", id_, a, b, amount, currency)


def _give_back(
    batch: "Batch", index: int, kind: str, id_: str, a: str, b: str, amount: int, currency: str
) -> str:
    original = parse_evidence(b)
    payer = original.payer
    if payer in (a, TRANSIT) or a == TRANSIT or not 0 <= amount <= AMOUNT_MINOR_MAX:
        raise ValueError(f"{amount} back from {a} to {payer}")
    if not 0 < original.amount_minor <= AMOUNT_MINOR_MAX:
        raise ValueError(f"an original of {original.amount_minor}")
    field = field_of_transfer(a, id_)
    fingerprint = fingerprint_of(a, holds.body_of(kind, b, amount, currency), batch.note)
    repeated = batch.answered(index, field, fingerprint)
    if repeated is not None:
        return repeated
    of_id = f"r.{original.field}"
    own = f"{of_id}@{b.split('|')[2]}"
    total = _total(batch, of_id, own)
    if original.how[0] == returns.STORED:
        in_window, in_store = returns.parse_stored(original.how)
        if in_window != batch.window:
            return "s"
        window, total = batch.current, max(total, in_store)
    else:
        remembering = _remembering(batch, original)
        if remembering is None:
            return "n"
        window = remembering
    rest = original.amount_minor - total
    if original.asked_minor is None and amount != rest:
        return "s"
    if amount == 0 and rest > 0:
        raise ValueError("a refund of nothing")
    to = payer if kind == "x" else TRANSIT
    outcome = "r" if amount > rest or rest == 0 else _refusal(batch, a, to, amount, currency)
    if outcome == "+":
        batch.add(a, currency, -amount)
        batch.add(to, currency, amount)
        _raise(batch, window, of_id, own, total, amount)
        batch.debited = batch.debited or kind == "z"
    kept = returns.RETURN_RECORD if outcome == "+" else outcome
    batch.remember(field, kept, fingerprint, index)
    return outcome


def _total(batch: "Batch", of_id: str, own: str) -> int:
    """The refunded sum. What rules 6 keep under an id alone begins with `0`, and is not for them."""
    windows = (batch.current, batch.previous)
    of_ids = [text for window in windows if (text := window.get(of_id)) is not None]
    if batch.rules < 6:
        return max(map(int, of_ids), default=0)
    texts = [text for text in of_ids if not text.startswith("0")]
    texts += [window[own] for window in windows if own in window]
    return max(map(int, texts), default=0)


def _raise(batch: "Batch", window: dict[str, str], of_id: str, own: str, total: int, amount: int) -> None:
    if batch.rules < 6:
        window[of_id] = str(total + amount)
        return
    before = max(total, *(int(each.get(of_id, 0)) for each in (batch.current, batch.previous)))
    kept = window.get(of_id, "0").startswith("0")
    window[of_id] = ("0" if kept else "") + str(min(before + amount, AMOUNT_MINOR_MAX))
    window[own] = str(total + amount)


def _remembering(batch: "Batch", original: Evidence) -> dict[str, str] | None:
    """The window in which the original is remembered as paid."""
    for window in (batch.current, batch.previous):
        if original.how == returns.CREDITED:
            field, mark = place_of_credit(f"{original.partition}.{original.seq}", original.idx)
            if credit_in(window.get(field, ""), mark) == "+":
                return window
        elif original.how[0] == returns.GROUP_PART:
            if window.get(REMEMBERED + original.base + original.how[1:]) == f"{COMMITTED} 0":
                return window
        else:
            text = window.get(original.base)
            if text and text == answer_text("+", original.seq, fingerprint_in(text), original.idx):
                return window
    return None


def _refusal(batch: "Batch", payer: str, payee: str, amount: int, currency: str) -> str:
    book = batch.balances.get(currency, {})
    for name, unknown in ((payer, "a"), (payee, "g" if batch.rules > 2 else "a")):
        if name not in book and name[:1] != "@":
            return unknown
    if refused := batch.refused_for_status(batch.flags.get(payer), batch.flags.get(payee)):
        return refused
    if payer[:1] != "@":
        flags = batch.flags.get(payer)
        if book[payer] - amount < -(0 if flags is None else flags.limits.get(currency, 0)):
            return "i"
    if payee[:1] != "@" and book[payee] + amount > AMOUNT_MINOR_MAX:
        return "l"
    return "l" if batch.over_most(payee, currency, book.get(payee, 0) + amount) else "+"


def undo(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    part, _, original = b.partition("|")
    seq, idx, decline = part.split(".")
    if not 0 < amount <= AMOUNT_MINOR_MAX or a == TRANSIT:
        raise ValueError(f"{amount} back to {a}")
    refunded = batch.open.get(int(seq))
    if refunded is None or int(idx) in refunded:
        return "="
    if a[:1] != "@" and batch.balances.get(currency, {}).get(a, 0) + amount > AMOUNT_MINOR_MAX:
        return "l"
    batch.add(a, currency, amount)
    batch.add(TRANSIT, currency, -amount)
    refunded.add(int(idx))
    original, _, place = original.partition("|") if batch.rules > 5 else (original, "", "")
    name = f"r.{original}"
    own = batch.rewrite(field_of_transfer(a, id_), decline, int(seq), int(idx))
    # Its total is in the window of its own answer or in the one before, or it is forgotten. A total that was
    # begun while that one was remembered counts it too. Any other is of a later original under the same id.
    counted = own is batch.current or (own is not None and name in batch.previous)
    for window in (batch.current, batch.previous) if counted or batch.rules < 5 else ():
        if name in window:
            kept = "0" if batch.rules > 5 and window[name].startswith("0") else ""
            window[name] = kept + str(max(0, int(window[name]) - amount))
    for window in (batch.current, batch.previous) if place else ():
        if f"{name}@{place}" in window:
            window[f"{name}@{place}"] = str(max(0, int(window[f"{name}@{place}"]) - amount))
    return "+"
