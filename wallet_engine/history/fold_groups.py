"""Facts about groups."""

from typing import Any

from wallet_engine.domain.groups import Leg, parse_words
from wallet_engine.domain.memory import transfer_field
from wallet_engine.domain.outcomes import WIRE_CODES
from wallet_engine.history.facts import DECLINED, GROUP, HELD, SUCCESS, GroupDecision, Transfer
from wallet_engine.history.step import Step


def decide_group(step: Step) -> None:
    _, id_, payer, other, _, _, note, by = step.operation
    said = parse_words(other)
    legs = said.legs
    if not (step.applied or step.declined):
        return
    status = SUCCESS if step.applied else DECLINED
    code = "" if step.applied else WIRE_CODES[step.outcome]
    step.facts.groups.append(
        GroupDecision(step.origin, step.at_ms, id_, payer, legs, status, code, note, by, said.mark)
    )
    for leg in legs:
        step.facts.transfers.append(
            Transfer(
                *(step.origin._replace(leg=leg.idx), step.at_ms, id_, GROUP, leg.payer, leg.receiver),
                *(leg.minor, leg.currency, status, code, note, by),
            )
        )
    for leg in legs:
        if step.applied:
            _pay_leg(step, leg, note)
        elif leg.payer_here and (leg.payer, leg.currency) in step.book.standings:
            step.post(
                *(leg.payer, leg.currency, GROUP),
                status=DECLINED,
                transaction=id_,
                counterparty=leg.receiver,
                origin=step.origin._replace(leg=leg.idx),
                note=note,
                code=code,
                amount=leg.minor,
            )


def _pay_leg(step: Step, leg: Leg, note: str = "", set_aside: bool = False) -> None:
    """Post the leg's sides in this partition. `set_aside`: their money was set aside before."""
    said: dict[str, Any] = {
        "transaction": step.operation.id,
        "origin": step.origin._replace(leg=leg.idx),
        "note": note,
    }
    if leg.payer_here:
        held = -leg.minor if set_aside and leg.payer[:1] != "@" else 0
        step.post(
            leg.payer, leg.currency, GROUP, delta=-leg.minor, held=held, counterparty=leg.receiver, **said
        )
    if leg.receiver_here:
        pending = -leg.minor if set_aside and leg.receiver[:1] != "@" else 0
        step.post(
            leg.receiver,
            leg.currency,
            GROUP,
            delta=leg.minor,
            pending=pending,
            counterparty=leg.payer,
            **said,
        )


def _set_leg_aside(step: Step, leg: Leg, sign: int) -> None:
    said: dict[str, Any] = {"transaction": step.operation.id, "origin": step.origin._replace(leg=leg.idx)}
    if leg.payer_here and leg.payer[:1] != "@":
        step.post(leg.payer, leg.currency, HELD, held=sign * leg.minor, **said)
    if leg.receiver_here and leg.receiver[:1] != "@":
        step.post(leg.receiver, leg.currency, HELD, pending=sign * leg.minor, **said)


def part_of_group(step: Step) -> None:
    if not step.applied:
        return
    kind, id_, payer, other = step.operation[:4]
    words = parse_words(other)
    key = transfer_field(payer, id_) + words.mark
    if kind == "y":
        step.facts.homes[step.origin] = (payer, words.mark)
    prepared = step.book.prepared.get(key, False)
    for leg in words.legs:
        if kind == "p":
            _set_leg_aside(step, leg, 1)
        elif kind == "y":
            _pay_leg(step, leg, set_aside=True)
        elif prepared:
            _set_leg_aside(step, leg, -1)
    step.book.prepared[key] = step.facts.parts[step.partition, key] = kind == "p"
