"""Facts about holds."""

from typing import Any

from wallet_engine.domain import holds
from wallet_engine.domain.errors import Corruption
from wallet_engine.history.book import hold_id_of
from wallet_engine.history.facts import (
    CAPTURE,
    DECLINED,
    HELD,
    PENDING,
    REVERSAL,
    SUCCESS,
    HoldState,
    LateRefusal,
)
from wallet_engine.history.step import Step, undone


def _hold_of(step: Step) -> HoldState:
    kind, id_, account, other = step.operation[:4]
    hold = step.book.holds.get((account, hold_id_of(kind, id_, other)))
    if hold is None:
        raise Corruption(
            f"entry {step.partition}.{step.seq}: {step.operation.line()}, and no such hold was placed"
        )
    return hold


def place_hold(step: Step) -> None:
    if not step.applied:
        return
    _, id_, account, other, amount, currency, note, by = step.operation
    to, expires_in_ms = other.split("|")
    hold = HoldState(
        *(account, id_, to, currency, amount, step.at_ms + int(expires_in_ms), step.at_ms, note, by),
        placed_seq=step.seq,
    )
    step.book.holds[account, id_] = hold
    step.post(account, currency, HELD, held=amount, transaction=id_, note=note)
    step.hold_changed("placed", amount, hold)


def increase(step: Step) -> None:
    if step.applied:
        hold, amount = _hold_of(step), step.operation.amount_minor
        hold.amount += amount
        step.post(hold.account, hold.currency, HELD, held=amount, transaction=hold.hold)
        step.hold_changed("increased", amount, hold)


def capture(step: Step) -> None:
    kind, id_, account, other, amount, currency, note, _ = step.operation
    to, _, share, _ = other.split("|")
    hold_id = hold_id_of(kind, id_, other)
    if step.declined:
        step.begin(CAPTURE, to, DECLINED, hold=hold_id)
    if not step.applied:
        return
    here, hold = kind == "k", _hold_of(step)
    ends = share == "f" or amount == hold.remaining
    hold.captured += amount
    hold.captures += 1
    released = 0
    if ends and here:
        released = hold.remaining
        hold.released += released
        hold.status = holds.CAPTURED
    elif ends:
        hold.busy = f"{step.seq}.{step.idx}"
    status = SUCCESS if here else PENDING
    step.begin(CAPTURE, to, status, hold=hold_id)
    said: dict[str, Any] = {"status": status, "transaction": id_, "note": note}
    step.post(account, currency, CAPTURE, delta=-amount, held=-amount - released, counterparty=to, **said)
    if here:
        step.post(to, currency, CAPTURE, delta=amount, counterparty=account, **said)
    step.hold_changed("captured", amount, hold)


def uncapture(step: Step) -> None:
    """The receiver refused a capture: the money returns to the hold, or is available if that has ended."""
    if not step.applied:
        return
    kind, id_, account, other, amount, currency, _, _ = step.operation
    origin, code = undone(step)
    hold_id = hold_id_of(kind, id_, other)
    hold = step.book.holds.get((account, hold_id))
    if hold is not None and step.rules > 4 and hold.placed_seq > origin.seq:
        hold = None  # placed after the capture: another one under the same id
        step.facts.late_refusals.append(LateRefusal(account, hold_id, origin.seq, amount, step.at_ms))
    is_open = hold is not None and hold.status == holds.OPEN
    said: dict[str, Any] = {"status": DECLINED, "transaction": id_, "origin": origin, "code": code}
    step.post(account, currency, REVERSAL, delta=amount, held=amount if is_open else 0, **said)
    if hold is None:
        return
    hold.captured -= amount
    hold.captures -= 1
    if not is_open:
        hold.released += amount
    elif hold.busy == other.partition("|")[0].rpartition(".")[0]:
        hold.busy = holds.NOBODY
    step.hold_changed("uncaptured", amount, hold)


def end_hold(step: Step) -> None:
    """End a hold: by a void, its expiry, or the last step of a final capture."""
    if not step.applied:
        return
    hold, kind = _hold_of(step), step.operation.kind
    released = hold.remaining
    expired = kind == "e" or (kind == "v" and step.at_ms >= hold.expires_ms)
    what = "released" if kind == "l" else "expired" if expired else "voided"
    hold.status = holds.CAPTURED if kind == "l" else holds.EXPIRED if expired else holds.VOIDED
    hold.released += released
    hold.busy = holds.NOBODY
    step.post(hold.account, hold.currency, HELD, held=-released, transaction=hold.hold)
    step.hold_changed(what, released, hold)
