"""How operations on holds are decided, in plain Python.

A part of `oracle_rules.py`, also independent of `lua/`.
"""

import json
from typing import TYPE_CHECKING, Final

from wallet_engine.domain import holds
from wallet_engine.domain.holds import Hold, parse_hold
from wallet_engine.domain.ids import TRANSIT
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX
from wallet_engine.domain.oracle_memory import field_of_transfer, fingerprint_of
from wallet_engine.domain.oracle_state import CLOSED, FROZEN

if TYPE_CHECKING:
    from wallet_engine.domain.oracle_batch import Batch

_REFUSALS_KEPT: Final = frozenset("acfhoxdemilgkq")


def _fields(
    batch: "Batch", kind: str, id_: str, a: str, b: str, amount: int, currency: str
) -> tuple[str, str]:
    """The field under which the operation is remembered, and the fingerprint of its body."""
    body = holds.body_of(kind, b, amount, currency)
    return field_of_transfer(a, id_), fingerprint_of(a, body, batch.note)


def _find(batch: "Batch", field: str) -> Hold | None:
    text = batch.holds.get(field)
    for window in (batch.current, batch.previous):
        if text is None:
            text = window.get(holds.ENDED + field)
    return None if text is None else parse_hold(text)


def _keep(batch: "Batch", field: str, hold: Hold) -> None:
    if hold.status == holds.OPEN:
        batch.holds[field] = hold.text()
        batch.due[field] = hold.expires_ms
        return
    batch.holds.pop(field, None)
    batch.due.pop(field, None)
    batch.current[holds.ENDED + field] = hold.text()


def _count(batch: "Batch", account: str, delta: int) -> None:
    name = holds.COUNT + account
    batch.holds[name] = str(int(batch.holds.get(name, 0)) + delta)


def _end(batch: "Batch", field: str, hold: Hold, status: str) -> None:
    rest = hold.remaining
    if rest:
        batch.shift(batch.held, hold.account, hold.currency, -rest)
        batch.add(hold.account, hold.currency, rest)
    hold.released += rest
    hold.status, hold.busy = status, holds.NOBODY
    _count(batch, hold.account, -1)
    _keep(batch, field, hold)


def _has_room(batch: "Batch", hold: Hold, minor: int) -> bool:
    return batch.balances.get(hold.currency, {}).get(hold.account, 0) + minor <= AMOUNT_MINOR_MAX


def _known(batch: "Batch", account: str) -> bool:
    return any(account in book for book in batch.balances.values())


def _status_refusal(batch: "Batch", account: str) -> str | None:
    flags = batch.flags.get(account)
    status = None if flags is None else flags.status
    return "c" if status == CLOSED else "f" if status == FROZEN else None


def _open_hold(batch: "Batch", field: str, account: str) -> tuple[str | None, Hold | None]:
    """(refusal, hold), one of them None, for an operation that needs an open hold and a usable account."""
    if not _known(batch, account):
        return "a", None
    refused = _status_refusal(batch, account)
    if refused:
        return refused, None
    hold = _find(batch, field)
    if hold is None or hold.account != account:
        return "h", None
    if hold.status == holds.EXPIRED:
        return "x", None
    if hold.status != holds.OPEN:
        return "o", None
    busy, overdue = hold.busy != holds.NOBODY, batch.time_ms >= hold.expires_ms
    if overdue and (batch.rules > 4 or not busy):
        return "x", None
    return ("b", None) if busy else (None, hold)


def _available_after(batch: "Batch", account: str, currency: str, minor: int) -> str | None:
    flags = batch.flags.get(account)
    limit = 0 if flags is None else flags.limits.get(currency, 0)
    return "i" if batch.balances[currency][account] - minor < -limit else None


def _held_after(batch: "Batch", account: str, currency: str, minor: int) -> str | None:
    held = batch.held.get(currency, {}).get(account, 0)
    return "l" if held + minor > AMOUNT_MINOR_MAX else None


def _remember(batch: "Batch", field: str, fingerprint: str, index: int, outcome: str, applied: str) -> str:
    kept = applied if outcome == "+" else outcome
    if outcome == "+" or outcome in _REFUSALS_KEPT:
        batch.remember(field, kept, fingerprint, index)
    return outcome


def _check_amount(amount: int, least: int = 1) -> None:
    if not least <= amount <= AMOUNT_MINOR_MAX:
        raise ValueError(f"amount {amount}")


def place(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    _check_amount(amount)
    to, expires_in_ms = b.split("|")
    if a[:1] == "@":
        raise ValueError("a system account holds nothing")
    field, fingerprint = _fields(batch, "h", id_, a, b, amount, currency)
    repeated = batch.answered(index, field, fingerprint)
    if repeated is not None:
        return repeated
    hold = _find(batch, field)
    if hold is not None:
        return "=" if hold.mark == fingerprint else "!"
    if a not in batch.balances.get(currency, {}):
        outcome = "a"
    elif refused := _status_refusal(batch, a):
        outcome = refused
    elif int(batch.holds.get(holds.COUNT + a, 0)) >= holds.OPEN_HOLDS_MAX:
        outcome = "m"
    else:
        outcome = (
            _available_after(batch, a, currency, amount) or _held_after(batch, a, currency, amount) or "+"
        )
    if outcome == "+":
        batch.add(a, currency, -amount)
        batch.shift(batch.held, a, currency, amount)
        _count(batch, a, 1)
        expires_ms = batch.time_ms + int(expires_in_ms)
        place = f"{batch.seq}.{index}"
        placed = Hold(holds.OPEN, a, to, currency, amount, 0, 0, 0, expires_ms, fingerprint, place)
        placed.reference = str(json.loads(batch.note or "{}").get("ref", ""))
        _keep(batch, field, placed)
    return _remember(batch, field, fingerprint, index, outcome, holds.HOLD_RECORD)


def increase(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    _check_amount(amount)
    field, fingerprint = _fields(batch, "i", id_, a, b, amount, currency)
    repeated = batch.answered(index, field, fingerprint)
    if repeated is not None:
        return repeated
    refused, hold = _open_hold(batch, b, a)
    if hold is not None:
        if hold.currency != currency:
            return "s"
        refused = _available_after(batch, a, currency, amount)
        if refused is None and hold.amount + amount > AMOUNT_MINOR_MAX:
            refused = "l"
        refused = refused or _held_after(batch, a, currency, amount)
        if refused is None:
            batch.add(a, currency, -amount)
            batch.shift(batch.held, a, currency, amount)
            hold.amount += amount
            _keep(batch, b, hold)
    return _remember(batch, field, fingerprint, index, refused or "+", holds.HOLD_RECORD)


def _capture(
    batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str, here: bool
) -> str:
    _check_amount(amount, 0)
    to, hold_field, share, asked = b.split("|")
    if to in (a, TRANSIT):
        raise ValueError(f"{amount} from {a} to {to}")
    field, fingerprint = _fields(batch, "k", id_, a, b, amount, currency)
    repeated = batch.answered(index, field, fingerprint)
    if repeated is not None:
        return repeated
    refused, hold = _open_hold(batch, hold_field, a)
    if hold is not None:
        rest = hold.remaining
        if hold.currency != currency or (asked == "-" and amount != rest):
            return "s"
        _check_amount(amount)
        refused = _capture_refusal(batch, hold, to, amount, here)
        if refused is None and here and share == "f" and not _has_room(batch, hold, rest - amount):
            refused = "l"
        if refused is None:
            batch.shift(batch.held, a, currency, -amount)
            hold.captured += amount
            hold.captures += 1
            batch.add(to if here else TRANSIT, currency, amount)
            ends = share == "f" or amount == rest
            if here and ends:
                _end(batch, hold_field, hold, holds.CAPTURED)
            else:
                if ends:
                    hold.busy = f"{batch.seq}.{index}"
                _keep(batch, hold_field, hold)
            batch.debited = batch.debited or not here
    return _remember(batch, field, fingerprint, index, refused or "+", "+")


def _capture_refusal(batch: "Batch", hold: Hold, to: str, amount: int, here: bool) -> str | None:
    if hold.receiver not in (None, to):
        return "d"
    if amount > hold.remaining:
        return "e"
    if hold.captures >= holds.CAPTURES_MAX:
        return "m"
    if not here:
        return None
    book = batch.balances.get(hold.currency, {})
    if to not in book and to[:1] != "@":
        return "g" if batch.rules > 2 else "a"
    refused = batch.refused_for_status(None, batch.flags.get(to))
    if refused is None and to[:1] != "@" and book[to] + amount > AMOUNT_MINOR_MAX:
        return "l"
    if refused is None and batch.over_most(to, hold.currency, book.get(to, 0) + amount):
        return "l"
    return refused


def capture(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    return _capture(batch, index, id_, a, b, amount, currency, here=True)


def capture_debit(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    return _capture(batch, index, id_, a, b, amount, currency, here=False)


def uncapture(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    _check_amount(amount)
    part, hold_field = b.split("|")
    seq, idx, decline = part.split(".")
    refunded = batch.open.get(int(seq))
    if refunded is None or int(idx) in refunded:
        return "="
    hold = _find(batch, hold_field)
    if hold is not None and batch.rules > 4 and int(hold.place.partition(".")[0]) > int(seq):
        hold = None  # placed after the capture: another one under the same id
    if hold is not None and hold.status == holds.OPEN:
        if _held_after(batch, a, currency, amount):
            return "l"
        batch.shift(batch.held, a, currency, amount)
        if hold.busy == f"{seq}.{idx}":
            hold.busy = holds.NOBODY
    else:
        if batch.balances.get(currency, {}).get(a, 0) + amount > AMOUNT_MINOR_MAX:
            return "l"
        batch.add(a, currency, amount)
        if hold is not None:
            hold.released += amount
    batch.add(TRANSIT, currency, -amount)
    refunded.add(int(idx))
    if hold is not None:
        hold.captured -= amount
        hold.captures -= 1
        _keep(batch, hold_field, hold)
    batch.rewrite(field_of_transfer(a, id_), decline, int(seq), int(idx))
    return "+"


def finish(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    part, hold_field = b.split("|")
    hold = _find(batch, hold_field)
    if hold is None or hold.status != holds.OPEN or hold.busy != part:
        return "="
    if hold.currency != currency:
        return "s"
    if not _has_room(batch, hold, hold.remaining):
        return "l"
    _end(batch, hold_field, hold, holds.CAPTURED)
    return "+"


def void(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    field = field_of_transfer(a, id_)
    hold = _find(batch, field)
    if not _known(batch, a):
        return "a"
    if hold is None:
        return "h"
    if hold.status == holds.CAPTURED:
        return "o"
    if hold.status != holds.OPEN:
        return "="
    if hold.busy != holds.NOBODY:
        return "b"
    if hold.currency != currency:
        return "s"
    if not _has_room(batch, hold, hold.remaining):
        return "l"
    _end(batch, field, hold, holds.EXPIRED if batch.time_ms >= hold.expires_ms else holds.VOIDED)
    return "+"


def expire(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    field = field_of_transfer(a, id_)
    hold = _find(batch, field)
    if hold is None or hold.status != holds.OPEN or hold.busy != holds.NOBODY:
        return "="
    if batch.time_ms < hold.expires_ms:
        return "="
    if hold.currency != currency:
        return "s"
    if not _has_room(batch, hold, hold.remaining):
        return "l"
    _end(batch, field, hold, holds.EXPIRED)
    return "+"
