"""The timeline of a group: the decision of its home, and the steps of its parts before and after it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wallet_engine.admin.tracing.telling import operation_text, outcome_text
from wallet_engine.domain.groups import Leg, parse_words
from wallet_engine.domain.kinds import kind_of
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.times import time_text
from wallet_engine.routing.homes import Homes

INTERRUPTED_GROUP: Final = "nothing: this attempt was interrupted, and a repeat of the group begins another"
#: Kinds of operations from cause to effect: a group is prepared before it is decided.
_CAUSES: Final = "mpgybw"


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of the transfer, as the journal has it."""

    time_ms: int
    partition: int
    seq: int
    idx: int
    operation: Operation
    outcome: str

    def document(self) -> dict[str, Any]:
        return {
            "time": time_text(self.time_ms),
            "partition": self.partition,
            "seq": self.seq,
            "text": operation_text(self.operation),
            "outcome": outcome_text(self.outcome),
        }


#: Reads the operations of a partition after a seq, from entries that contain one of the texts.
ReadSteps = Callable[..., Iterator[Step]]


def steps_of_group(
    read_steps: ReadSteps, directory: Path, homes: Homes, home: int, packed: str, payer: str
) -> list[Step]:
    """The steps of all attempts by time; within a millisecond, causes before effects."""
    steps = list(_own(read_steps(directory, home, 0, packed), packed, payer))
    parts = {partition for step in steps for partition in _partitions(homes, step.operation)} - {home}
    for partition in sorted(parts):
        steps += _own(read_steps(directory, partition, 0, packed), packed, payer)
    return sorted(steps, key=lambda step: (step.time_ms, _CAUSES.index(step.operation.kind)))


def status_of_group(steps: Sequence[Step]) -> str:
    """One sentence: paid, declined and why, pending and for what, or not applied."""
    decided = [step for step in steps if step.operation.kind in "mg"]
    if not decided:
        return "pending: it is prepared, and home is to decide"
    last = decided[-1]
    if last.outcome == Outcome.INTERRUPTED:
        # A home that has forgotten a group calls a later attempt void, also if the group was paid.
        paid_before = [
            step for step in decided if step.outcome == Outcome.APPLIED and _mark(step) == _mark(last)
        ]
        if not paid_before:
            return INTERRUPTED_GROUP
        last = paid_before[-1]
    if last.outcome != Outcome.APPLIED:
        return f"declined: {outcome_text(last.outcome)}"
    kinds = {step.operation.kind for step in steps}
    paid = {(leg.idx, side) for step in steps if step.operation.kind in "gy" for leg, side in _sides(step)}
    legs = parse_words(last.operation.other).legs
    if last.operation.kind == "m" or "w" in kinds or len(paid) == 2 * len(legs):
        return "paid"
    return "pending: it is decided, and parts of it are still to pay"


def receivers_of_group(homes: Homes, operation: Operation) -> dict[str, int]:
    """Receiver of each leg -> the partition of the leg's payer."""
    return {leg.receiver: homes.of_payer(leg.payer, operation.id) for leg in _legs(operation)}


def _own(steps: Iterator[Step], packed: str, payer: str) -> Iterator[Step]:
    for step in steps:
        operation = step.operation
        mine = kind_of(operation.kind).grouped and (operation.id, operation.account) == (packed, payer)
        if mine and step.outcome not in (Outcome.REPEATED, Outcome.CONFLICT):
            yield step


def _mark(step: Step) -> str:
    return parse_words(step.operation.other).mark


def _legs(operation: Operation) -> tuple[Leg, ...]:
    return parse_words(operation.other).legs


def _sides(step: Step) -> Iterator[tuple[Leg, bool]]:
    for leg in _legs(step.operation) if step.outcome == Outcome.APPLIED else ():
        if leg.payer_here:
            yield leg, True
        if leg.receiver_here:
            yield leg, False


def _partitions(homes: Homes, operation: Operation) -> Iterator[int]:
    for leg in _legs(operation):
        payers = homes.of_payer(leg.payer, operation.id)
        yield payers
        yield homes.of_receiver(leg.receiver, payers)
