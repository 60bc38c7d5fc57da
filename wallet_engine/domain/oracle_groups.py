"""How operations on groups are decided, in plain Python: a part of `oracle_rules.py`, independent of `lua/`.

Money moves leg by leg. A leg whose other side is elsewhere goes through `@transit`: setting money aside for a
receiver takes it from `@transit`, and the payer's payment puts it there.
"""

from collections import Counter
from typing import TYPE_CHECKING, Final

from wallet_engine.domain.groups import (
    ABORTED,
    COMMIT,
    COMMITTED,
    INTERRUPT,
    NONE,
    PREPARED,
    REMEMBERED,
    Leg,
    Record,
    Remembered,
    Words,
    parse_record,
    parse_remembered,
    parse_words,
)
from wallet_engine.domain.ids import TRANSIT, is_system
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX
from wallet_engine.domain.oracle_memory import field_of_transfer, fingerprint_of

if TYPE_CHECKING:
    from wallet_engine.domain.oracle_batch import Batch

_INTERRUPTED: Final = "u"

#: (currency, account) -> minor units of the legs looked at so far
_Sums = Counter[tuple[str, str]]


def pay(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    """Decide a group that is all in this partition (`m`). It leaves no record, so none is looked for."""
    return _decide(batch, index, id_, a, b, has_record=False)


def decide(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    """The home's decision on a group (`g`)."""
    return _decide(batch, index, id_, a, b, has_record=True)


def _decide(batch: "Batch", index: int, id_: str, a: str, b: str, *, has_record: bool) -> str:
    mark, attempt, word, legs = parse_words(b)
    _check(legs)
    field = field_of_transfer(a, id_)
    known = _remembered(batch, REMEMBERED + field)
    answer = batch.current.get(field) or batch.previous.get(field)
    # If parts have still to pay, the record lives longer than the answer, and than others of the id.
    is_paid = has_record and batch.groups.get(field + mark, NONE)[0] == COMMITTED
    if is_paid and (not answer or batch.rules > 5):
        return "="
    if answer is not None:
        before = None if known is None else parse_remembered(known)
        if before is None or before.words.mark != mark:
            return "!"
        if answer[0] != _INTERRUPTED or before.words.attempt >= attempt:
            return "="
    refused: tuple[str, int | str] | None = None
    if word == INTERRUPT:
        refused = (_INTERRUPTED, NONE)
    else:
        found = _first_refusal(batch, legs, setting_aside=False)
        refused = None if found is None else (found[0], found[1].idx)
        if word != COMMIT:
            how, leg_text, code = word.split(".")
            leg = int(leg_text)
            if how != "a":
                raise ValueError(word)
            payer_first = found is not None and found[1].idx == leg and found[1].role == "r"
            if found is None or leg < found[1].idx or payer_first:
                refused = (code, leg)
    outcome, refused_leg = ("+", NONE) if refused is None else (refused[0], str(refused[1]))
    fingerprint = fingerprint_of(a, mark, batch.note)
    batch.remember(field, outcome, fingerprint, index)
    batch.current[REMEMBERED + field] = Remembered(refused_leg, Words(mark, attempt, word, legs)).text()
    if refused is None:
        _pay_available(batch, legs)
        if any(leg.role != "b" for leg in legs):
            record = Record(COMMITTED, a, f"{batch.seq}.{index}", Words(mark, attempt, word, legs))
            batch.groups[field + mark] = record.text()
    return outcome


def prepare(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    """A part sets aside what its legs need."""
    mark, attempt, word, legs = parse_words(b)
    _check(legs)
    if not legs:
        raise ValueError("no legs")
    key = field_of_transfer(a, id_) + mark
    if key in batch.groups:
        return "="
    ended = _remembered(batch, REMEMBERED + key)
    if ended is not None and (ended[0] != ABORTED or int(ended[2:]) >= attempt):
        return "="
    refused = _first_refusal(batch, legs, setting_aside=True)
    if refused is not None:
        return refused[0]
    for leg in legs:
        _set_aside(batch, leg, 1)
    words = Words(mark, attempt, word, legs)
    batch.groups[key] = Record(PREPARED, a, f"{batch.seq}.{index}", words).text()
    return "+"


def commit(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    """A part pays what it set aside."""
    mark, attempt, _, legs = parse_words(b)
    _check(legs)
    key = field_of_transfer(a, id_) + mark
    record = _prepared(batch, key, legs)
    if record is None or record.words.attempt != attempt:
        return "="
    receivers = [(leg, leg.receiver) for leg in legs if leg.receiver_here and not is_system(leg.receiver)]
    if not _have_room(batch, receivers):
        return "l"
    for leg in legs:
        _pay_set_aside(batch, leg)
    del batch.groups[key]
    batch.current[REMEMBERED + key] = f"{COMMITTED} 0"
    return "+"


def abort(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    """A part gives back what it set aside, and never sets anything aside for this attempt again."""
    mark, attempt, _, legs = parse_words(b)
    _check(legs)
    key = field_of_transfer(a, id_) + mark
    if key in batch.groups:
        record = _prepared(batch, key, legs)
        if record is None or record.words.attempt > attempt:
            return "="
        if not _have_room(
            batch, [(leg, leg.payer) for leg in legs if leg.payer_here and not is_system(leg.payer)]
        ):
            return "l"
        for leg in legs:
            _set_aside(batch, leg, -1)
        del batch.groups[key]
    else:
        ended = _remembered(batch, REMEMBERED + key)
        if ended is not None and (ended[0] == COMMITTED or int(ended[2:]) >= attempt):
            return "="
    batch.current[REMEMBERED + key] = f"{ABORTED} {attempt}"
    return "+"


def forget(batch: "Batch", index: int, id_: str, a: str, b: str, amount: int, currency: str) -> str:
    """The home drops its record, because every part has ended."""
    key = field_of_transfer(a, id_) + parse_words(b).mark
    if batch.groups.get(key, NONE)[0] != COMMITTED:
        return "="
    del batch.groups[key]
    return "+"


def _check(legs: tuple[Leg, ...]) -> None:
    if not all(1 <= leg.minor <= AMOUNT_MINOR_MAX for leg in legs):
        raise ValueError("an amount out of bounds")


def _remembered(batch: "Batch", field: str) -> str | None:
    return batch.current.get(field) or batch.previous.get(field)


def _prepared(batch: "Batch", key: str, legs: tuple[Leg, ...]) -> Record | None:
    """What is set aside under the key, if it is for these legs."""
    text = batch.groups.get(key)
    record = None if text is None else parse_record(text)
    return None if record is None or record.status != PREPARED or record.words.legs != legs else record


def _first_refusal(batch: "Batch", legs: tuple[Leg, ...], setting_aside: bool) -> tuple[str, Leg] | None:
    """The first leg whose side in this partition is refused. Money from one leg cannot pay for another."""
    spent, coming = _Sums(), _Sums()
    for leg in legs:
        refused = _state_refusal(batch, leg)
        if refused is None and leg.payer_here and not is_system(leg.payer):
            refused = _payer_refusal(batch, leg, spent, setting_aside)
        if refused is None and leg.receiver_here and not is_system(leg.receiver):
            coming[leg.currency, leg.receiver] += leg.minor
            into = coming[leg.currency, leg.receiver]
            if setting_aside:
                into += batch.pending.get(leg.currency, {}).get(leg.receiver, 0)
            have = batch.balances[leg.currency][leg.receiver]
            full = max(into, have + into) > AMOUNT_MINOR_MAX
            have += coming[leg.currency, leg.receiver]
            refused = "l" if full or batch.over_most(leg.receiver, leg.currency, have) else None
        if refused is not None:
            return refused, leg
    return None


def _state_refusal(batch: "Batch", leg: Leg) -> str | None:
    book = batch.balances.get(leg.currency, {})
    if leg.payer_here and leg.payer not in book and not is_system(leg.payer):
        return "a"
    if leg.receiver_here and leg.receiver not in book and not is_system(leg.receiver):
        return "g" if batch.rules > 2 else "a"
    payer = batch.flags.get(leg.payer) if leg.payer_here else None
    receiver = batch.flags.get(leg.receiver) if leg.receiver_here else None
    return batch.refused_for_status(payer, receiver)


def _payer_refusal(batch: "Batch", leg: Leg, spent: _Sums, setting_aside: bool) -> str | None:
    spent[leg.currency, leg.payer] += leg.minor
    out = spent[leg.currency, leg.payer]
    flags = batch.flags.get(leg.payer)
    limit = 0 if flags is None else flags.limits.get(leg.currency, 0)
    left = batch.balances[leg.currency][leg.payer] - out
    if left < 0 and left < -limit:
        return "i"
    if setting_aside and batch.held.get(leg.currency, {}).get(leg.payer, 0) + out > AMOUNT_MINOR_MAX:
        return "l"
    return None


def _pay_available(batch: "Batch", legs: tuple[Leg, ...]) -> None:
    for leg in legs:
        if leg.payer_here:
            batch.add(leg.payer, leg.currency, -leg.minor)
            batch.add(leg.receiver if leg.receiver_here else TRANSIT, leg.currency, leg.minor)
        elif leg.receiver_here:
            batch.add(TRANSIT, leg.currency, -leg.minor)
            batch.add(leg.receiver, leg.currency, leg.minor)


def _set_aside(batch: "Batch", leg: Leg, sign: int) -> None:
    minor = sign * leg.minor
    if leg.payer_here and not is_system(leg.payer):
        batch.add(leg.payer, leg.currency, -minor)
        batch.shift(batch.held, leg.payer, leg.currency, minor)
    if leg.receiver_here and not is_system(leg.receiver):
        batch.shift(batch.pending, leg.receiver, leg.currency, minor)
        batch.add(TRANSIT, leg.currency, -minor)


def _pay_set_aside(batch: "Batch", leg: Leg) -> None:
    through = 0
    if leg.payer_here:
        if is_system(leg.payer):
            batch.add(leg.payer, leg.currency, -leg.minor)
        else:
            batch.shift(batch.held, leg.payer, leg.currency, -leg.minor)
        through += leg.minor
    if leg.receiver_here:
        batch.add(leg.receiver, leg.currency, leg.minor)
        if is_system(leg.receiver):
            through -= leg.minor
        else:
            batch.shift(batch.pending, leg.receiver, leg.currency, -leg.minor)
    if through:
        batch.add(TRANSIT, leg.currency, through)


def _have_room(batch: "Batch", sides: list[tuple[Leg, str]]) -> bool:
    into = _Sums()
    for leg, account in sides:
        into[leg.currency, account] += leg.minor
    return all(
        batch.balances[currency][account] + minor <= AMOUNT_MINOR_MAX
        for (currency, account), minor in into.items()
    )
