"""Describes operations and outcomes in words, for people who read a journal."""

from typing import Any

from wallet_engine.domain import groups, holds
from wallet_engine.domain.entry import Entry, parse_entry
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.ids import unpack_transaction_id
from wallet_engine.domain.kinds import Other, kind_of, receiver_of
from wallet_engine.domain.memory import PAYER_LENGTH
from wallet_engine.domain.money import format_amount
from wallet_engine.domain.notes import REFERENCE, said_in
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import WIRE_CODES, Outcome
from wallet_engine.domain.returns import original_field_of, parse_evidence
from wallet_engine.domain.times import time_text


def operation_text(operation: Operation) -> str:
    """Such as `debit 12.34 USD from alice for bob, id 6f1c…, "rent"`. Raises `Corruption` for an unknown kind."""
    reference = said_in(operation.note).get(REFERENCE)
    return _words_of(operation) + (f', "{reference}"' if reference else "")


def _words_of(o: Operation) -> str:
    match o.kind:
        case "o":
            overdraft, _, most = o.other.partition("<")
            return f"open {o.account} in {o.currency}{_limits_text(overdraft, most or '-', o.currency)}"
        case "a":
            overdraft, _, most = o.other.partition("|")
            return f"set limits of {o.account} in {o.currency}{_limits_text(overdraft, most, o.currency)}"
        case "t":
            return f"transfer {_money(o)} from {o.account} to {o.other}, id {unpack_transaction_id(o.id)}"
        case "d":
            return f"debit {_money(o)} from {o.account} for {o.other}, id {unpack_transaction_id(o.id)}"
        case "c":
            p, _, seq = o.id.partition(".")
            return (
                f"credit {_money(o)} to {o.account}, for operation {o.other} of entry {seq} of partition {p}"
            )
        case "r":
            seq, idx, outcome = o.other.split(".")
            where = f"operation {idx} of entry {seq}: {outcome_text(outcome)}"
            return f"refund {_money(o)} to {o.account}, id {unpack_transaction_id(o.id)}, {where}"
        case "s":
            return f"settle entry {o.id}"
        case "n":
            return f"probe of {o.id}"
        case "f":
            verb, _, seq = o.other.partition(".")
            return f"{verb} {o.account}" + (f", frozen by entry {seq} for its close" if seq else "")
        case "h" | "i" | "k" | "q" | "u" | "l" | "v" | "e":
            return hold_operation_text(o)
        case "x" | "z" | "j":
            return return_text(o)
        case "m" | "p" | "g" | "y" | "b" | "w":
            return group_operation_text(o)
        case _:
            raise Corruption(f"there are no words for an operation of kind {o.kind!r}")


def _limits_text(overdraft: str, most: str, currency: str) -> str:
    said = "" if overdraft == "-" else f", overdraft limit {format_amount(int(overdraft), currency)}"
    return said if most == "-" else f"{said}, at most {format_amount(int(most), currency)}"


def hold_operation_text(o: Operation) -> str:
    """An operation on a hold, in words."""
    match o.kind:
        case "h":
            word, _, expires_in_ms = o.other.partition("|")
            to = holds.receiver_in(word)
            where = "" if to is None else f" for {to}"
            return f"hold {_money(o)} of {o.account}{where}, {int(expires_in_ms) // 1000} s, id {_id(o)}"
        case "i":
            return f"increase hold {_hold_id(o.other)} of {o.account} by {_money(o)}, id {_id(o)}"
        case "k" | "q":
            to, hold = holds.receiver_of(o.other), _hold_id(holds.hold_field_of(o.other))
            return f"capture {_money(o)} of hold {hold} of {o.account} for {to}, id {_id(o)}"
        case "u":
            part, _, hold = o.other.partition("|")
            where = f"operation {part.split('.')[1]} of entry {part.split('.')[0]}"
            return f"undo capture of {_money(o)} of hold {_hold_id(hold)} of {o.account}, {where}"
        case "l":
            return f"end hold {_hold_id(holds.hold_field_of(o.other))} of {o.account} behind its capture"
        case "v":
            return f"void hold {_id(o)} of {o.account}"
        case _:
            return f"expire hold {_id(o)} of {o.account}"


def return_text(o: Operation) -> str:
    """An operation of a refund that a caller asked for, in words."""
    if o.kind == "j":
        seq, idx, outcome = o.other.partition("|")[0].split(".")
        where = f"operation {idx} of entry {seq}: {outcome_text(outcome)}"
        of = unpack_transaction_id(original_field_of(o.other)[:-PAYER_LENGTH])
        return f"undo refund of {_money(o)} of {of}, back to {o.account}, id {_id(o)}, {where}"
    original = parse_evidence(o.other)
    of = f"of {unpack_transaction_id(original.transaction)}"
    return f"refund {_money(o)} {of} from {o.account} to {original.payer}, id {_id(o)}"


def group_operation_text(o: Operation) -> str:
    """An operation on a group, in words."""
    said = groups.parse_words(o.other)
    name = f"group of {o.account}, id {_id(o)}"
    attempt = f", attempt {said.attempt + 1}" if said.attempt else ""
    legs = "; ".join(_leg(leg) for leg in said.legs if leg.role != groups.ELSEWHERE)
    what = f"{name}{attempt}: {legs}" if legs else f"{name}{attempt}"
    match o.kind:
        case "m":
            return f"transfer {what}"
        case "p":
            return f"prepare {what}"
        case "y":
            return f"pay what was prepared of {what}"
        case "b":
            return f"give back what was prepared of {what}"
        case "w":
            return f"forget {name}, all of which has ended"
        case _:
            if said.word == groups.INTERRUPT:
                return f"end {what}, which was interrupted"
            if said.word != groups.COMMIT:
                _, leg, code = said.word.split(".")
                return f"refuse {what}, for its leg {leg}: {outcome_text(code)}"
            return f"decide {what}"


def _leg(leg: groups.Leg) -> str:
    return f"{leg.idx}. {format_amount(leg.minor, leg.currency)} {leg.currency} from {leg.payer} to {leg.receiver}"


def _id(operation: Operation) -> str:
    return unpack_transaction_id(operation.id)


def _hold_id(hold_field: str) -> str:
    return unpack_transaction_id(hold_field[:-PAYER_LENGTH])


def outcome_text(outcome: str) -> str:
    """`applied`, `repeated`, or the code of the refusal."""
    match outcome:
        case Outcome.APPLIED:
            return "applied"
        case Outcome.REPEATED:
            return "repeated"
        case Outcome.INTERRUPTED:
            return "interrupted"
        case _:
            return WIRE_CODES.get(outcome, f"outcome {outcome}")


def operation_document(operation: Operation, outcome: str) -> dict[str, Any]:
    """One operation for `--json`: `text`, outcome, its line as written, the key that caused it, its note."""
    return {
        "text": operation_text(operation),
        "outcome": outcome_text(outcome),
        "line": operation.line(),
        "key": operation.by or None,
        "note": said_in(operation.note),
    }


def entry_document(partition: int, entry: Entry) -> dict[str, Any]:
    """An entry for `--json`."""
    header = entry.header
    return {
        "partition": partition,
        "seq": header.seq,
        "time": time_text(header.time_ms),
        "epoch": header.epoch,
        "nonce": header.nonce,
        "operations": [
            operation_document(operation, outcome)
            for operation, outcome in zip(entry.operations, header.outcomes, strict=True)
        ],
    }


def concerns(operation: Operation, account: str) -> bool:
    """Whether the operation names the account."""
    if kind_of(operation.kind).grouped and any(
        account in (leg.payer, leg.receiver) for leg in groups.parse_words(operation.other).legs
    ):
        return True
    names_another = operation.kind in "kqxz" or kind_of(operation.kind).other in (
        Other.ACCOUNT,
        Other.RECEIVER,
    )
    return account == operation.account or (names_another and account == receiver_of(operation))


def entry_about(payload: bytes, account: str) -> Entry | None:
    """The entry if one of its operations names the account. Parses few other entries. Raises `Corruption`."""
    if account.encode() not in payload:
        return None
    entry = parse_entry(payload)
    return entry if any(concerns(operation, account) for operation in entry.operations) else None


def _money(operation: Operation) -> str:
    return f"{format_amount(operation.amount_minor, operation.currency)} {operation.currency}"
