"""Collects all that is known of one transfer: what Redis remembers, and its entries in the journal as a timeline."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis.exceptions import RedisError

from wallet_engine.admin.survey import Survey
from wallet_engine.admin.tracing.group_timeline import (
    INTERRUPTED_GROUP,
    Step,
    receivers_of_group,
    status_of_group,
    steps_of_group,
)
from wallet_engine.admin.tracing.open_entries import remembered
from wallet_engine.admin.tracing.telling import outcome_text
from wallet_engine.domain.entry import parse_entry
from wallet_engine.domain.holds import HOLD_RECORD
from wallet_engine.domain.ids import is_system, pack_transaction_id, unpack_transaction_id
from wallet_engine.domain.kinds import Id, kind_of, receiver_of
from wallet_engine.domain.memory import (
    PAYER_LENGTH,
    TransferRecord,
    credit_memory,
    credit_outcome,
    transfer_field,
)
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.returns import LEG, RETURN_RECORD, original_field_of
from wallet_engine.journal.reader import read
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.stream import stream_entries
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.homes import Homes
from wallet_engine.routing.slots import tag_of

#: Kinds that pay within one partition. `_REFUNDS`: refunds within one partition, across two, and their undoing.
_LOCAL: Final = "tkx"
#: Kinds that place or increase a hold: they move no money to anybody.
_OF_HOLDS: Final = "hi"
_REFUNDS: Final = "xzj"


@dataclass(frozen=True, slots=True)
class Remembered:
    """The memory of Redis: `outcome` of the answer, and the place of its entry.

    While the entry is open, also the receiver, and the outcome of the credit that the receiver's partition remembers.
    """

    outcome: str
    seq: int
    idx: int
    open: bool
    to_account: str | None
    credit: str | None
    #: Id of the API key that paid, while the entry is in the stream.
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """`redis` is None when Redis does not remember the transfer, or did not answer: `redis_trouble` says why."""

    transaction_id: str
    from_account: str
    partition: int
    redis: Remembered | None
    redis_trouble: str
    #: None without a journal to read.
    steps: tuple[Step, ...] | None
    #: The refunds of the transfer.
    refunds: tuple[Step, ...] = ()

    @property
    def key(self) -> str | None:
        """Id of the API key that paid; None without one, or when its entry can no longer be read."""
        by = self.steps[0].operation.by if self.steps else ""
        return by or (None if self.redis is None else self.redis.key)

    @property
    def status(self) -> str:
        """One sentence: paid, declined and why, pending and for what, or unknown."""
        steps = {step.operation.kind: step for step in self.steps or ()}
        first = next((step for kind, step in steps.items() if _begins(kind)), None)
        redis = self.redis
        outcome = first.outcome if first is not None else None if redis is None else redis.outcome
        if self.steps and kind_of(self.steps[-1].operation.kind).grouped:
            return status_of_group(self.steps)
        held = first is not None and first.operation.kind in _OF_HOLDS and outcome == Outcome.APPLIED
        if held or outcome == HOLD_RECORD:
            return f"unknown: the id is of a hold and not of a transfer: {self._command_of_hold(first)}"
        if outcome == Outcome.INTERRUPTED:
            return INTERRUPTED_GROUP
        if outcome is None:
            return "unknown: neither Redis nor the journal has it"
        undone = next((step.operation for kind, step in steps.items() if kind_of(kind).rewrites), None)
        if undone is not None:
            decline = undone.other.partition("|")[0].split(".")[2]
            return f"declined: {outcome_text(decline)}, and refunded"
        if outcome != Outcome.APPLIED:
            return f"declined: {outcome_text(outcome)}"
        settled = redis is not None and redis.outcome == outcome and not redis.open
        if (first is not None and first.operation.kind in _LOCAL) or "s" in steps or settled:
            return "paid"
        credit = steps["c"].outcome if "c" in steps else None if redis is None else redis.credit
        if credit is None:
            return "pending: the money has left the payer, the credit is to come"
        if credit == Outcome.APPLIED:
            return "paid"
        return f"pending: the credit was refused ({outcome_text(credit)}), the refund is to come"

    def _command_of_hold(self, first: Step | None) -> str:
        increased = first is not None and first.operation.kind == "i"
        hold = unpack_transaction_id(first.operation.other[:-PAYER_LENGTH]) if increased and first else None
        return f"see wallet-admin hold {hold or self.transaction_id} --account {self.from_account}"


def _begins(kind: str) -> bool:
    return kind_of(kind).remembered and kind_of(kind).id is Id.TRANSACTION


def trace(found: Survey, journal: Path | None, transaction_id: str, from_account: str) -> Trace:
    """Everything known of the transfer. `transaction_id` is canonical. Raises `Damaged` for a damaged journal."""
    packed = pack_transaction_id(transaction_id)
    homes = Homes(found.config.partitions)
    home = homes.of_payer(from_account, packed)
    redis, trouble = _remembered(found, home, packed, from_account)
    if is_system(from_account) and (redis is None or redis.outcome == Outcome.INTERRUPTED):
        elsewhere, refund = _refund_elsewhere(found, journal, homes, home, packed, from_account)
        if elsewhere != home:
            home, redis = elsewhere, refund
    steps: tuple[Step, ...] | None = None
    refunds: tuple[Step, ...] = ()
    if journal is not None:
        seq = 0 if redis is None else redis.seq
        steps = tuple(_steps_in_journal(journal, homes, home, packed, from_account, seq))
        refunds = tuple(_refunds_in_journal(journal, homes, home, steps))
    return Trace(transaction_id, from_account, home, redis, trouble, steps, refunds)


def _refund_elsewhere(
    found: Survey, journal: Path | None, homes: Homes, home: int, packed: str, payer: str
) -> tuple[int, Remembered | None]:
    """The partition of a refund that a system account paid, and what Redis remembers there; else `home`.

    It is decided where its original is, and not at the home of its id, which only keeps the id for it.
    """
    for partition in range(homes.partitions):
        redis, _ = _remembered(found, partition, packed, payer) if partition != home else (None, "")
        if redis is not None:
            return partition, redis
    wanted = packed.encode()
    for record in read(journal, verify=False) if journal is not None else ():
        for operation in parse_entry(record.payload).operations if wanted in record.payload else ():
            if operation.kind in _REFUNDS and (operation.id, operation.account) == (packed, payer):
                return record.partition, None
    return home, None


def _remembered(found: Survey, home: int, packed: str, from_account: str) -> tuple[Remembered | None, str]:
    """What Redis remembers, or why it does not answer."""
    count = found.config.partitions
    try:
        with _client(found, home) as client:
            keys = PartitionKeys(tag_of(home, count))
            records = remembered(client, keys, transfer_field(from_account, packed))
            if not records:
                return None, ""
            outcome, _, seq, idx = TransferRecord.parse(records[0])
            outcome = Outcome.APPLIED.value if outcome == RETURN_RECORD else outcome
            is_open = client.zscore(keys.open, seq) is not None
            stream = client.xrange(keys.journal, f"{seq}-0", f"{seq}-0")
        to_account = credit = key = None
        if stream:
            entry = parse_entry(stream_entries(stream)[0].payload)
            key = entry.operations[idx].by or None
        if stream and is_open:
            grouped = kind_of(entry.operations[idx].kind).grouped
            to_account = None if grouped else receiver_of(entry.operations[idx])
            if to_account is not None and kind_of(entry.operations[idx].kind).opens:
                to_partition = Homes(count).of_receiver(to_account, home)
                with _client(found, to_partition) as client:
                    keys = PartitionKeys(tag_of(to_partition, count))
                    field, mark = credit_memory(f"{home}.{seq}", idx)
                    credit = credit_outcome("".join(remembered(client, keys, field)), mark)
    except (RedisError, OSError) as error:
        return None, " ".join(str(error).split()) or type(error).__name__
    return Remembered(outcome, seq, idx, is_open, to_account, credit, key), ""


def _client(found: Survey, partition: int) -> Any:
    shard = found.partitions[partition].shard
    state = next((state for state in found.shards if state.shard.name == shard), None)
    if state is None or state.primary is None:
        raise OSError(f"shard {shard} has no primary that answers")
    return connect(state.primary.address)


def _steps_in_journal(
    directory: Path, homes: Homes, home: int, packed: str, payer: str, seq: int
) -> list[Step]:
    """The steps by time; within a millisecond, causes before effects.

    `seq` is that of the debit, 0 when it is not known. The journal is read in two passes: the payer's partition up to
    the settle, then the receiver's up to the credit.
    """
    found: list[Step] = []
    debit: Step | None = None
    for step in _read_steps(directory, home, seq - 1, packed):
        kind = kind_of(step.operation.kind)
        mine = step.operation.id == packed and step.operation.account == payer and kind.id is Id.TRANSACTION
        if mine and kind.grouped:
            return steps_of_group(_read_steps, directory, homes, home, packed, payer)
        if mine and step.outcome not in (Outcome.REPEATED, Outcome.CONFLICT):
            found.append(step)
            if kind.opens and step.outcome == Outcome.APPLIED:
                debit = step
            if kind.remembered:
                break
    if debit is None:
        return found
    for step in _read_steps(directory, home, debit.seq, packed, str(debit.seq)):
        refund = (
            kind_of(step.operation.kind).rewrites
            and step.operation.id == packed
            and step.operation.account == payer
            and step.operation.other.startswith(f"{debit.seq}.{debit.idx}.")
        )
        settle = step.operation.kind == "s" and step.operation.id == str(debit.seq)
        if (refund or settle) and step.outcome == Outcome.APPLIED:
            found.append(step)
        if settle:
            break
    reference = f"{home}.{debit.seq}"  # lines have all of it; columns may have only its beginning
    to_partition = homes.of_receiver(receiver_of(debit.operation), home)
    for step in _read_steps(directory, to_partition, 0, reference[:-2]):
        operation = step.operation
        decided = step.outcome != Outcome.REPEATED
        if (
            kind_of(operation.kind).id is Id.CREDIT
            and (operation.id, operation.other) == (reference, str(debit.idx))
            and decided
        ):
            found.append(step)
            break
    return in_order(found)


def in_order(steps: Iterable[Step]) -> list[Step]:
    """The steps of one transfer, causes before effects."""
    return sorted(steps, key=_place)


def _place(step: Step) -> tuple[bool, int, int]:
    """Sort key: the first step is first, whatever the nodes' clocks say; then by time, then causes before effects."""
    kind = kind_of(step.operation.kind)
    cause = 1 if kind.id is Id.CREDIT else 0 if kind.remembered else 2 if kind.rewrites else 3
    return cause > 0, step.time_ms, cause


def _refunds_in_journal(directory: Path, homes: Homes, home: int, steps: Sequence[Step]) -> Iterator[Step]:
    """The refunds of the transfer with these steps, and their undoing."""
    paid = next((step for step in steps if _begins(step.operation.kind)), None)
    if paid is None or paid.outcome != Outcome.APPLIED or paid.operation.kind in "hi" + _REFUNDS:
        return
    operation = paid.operation
    field = transfer_field(operation.account, operation.id)
    grouped = kind_of(operation.kind).grouped
    receivers = receivers_of_group(homes, operation) if grouped else {receiver_of(operation): home}
    partitions = {homes.of_receiver(receiver, payers) for receiver, payers in receivers.items()}
    for step in (each for q in sorted(partitions) for each in _read_steps(directory, q, 0, field)):
        kind = step.operation.kind
        if (
            kind in _REFUNDS
            and step.outcome == Outcome.APPLIED
            and original_field_of(step.operation.other).partition(LEG)[0] == field
        ):
            yield step


def _read_steps(directory: Path, partition: int, after: int, *texts: str) -> Iterator[Step]:
    """The operations of those of the partition's entries that contain one of the texts."""
    needles = [text.encode() for text in texts]
    for record in read(directory, partitions={partition}, after={partition: max(0, after)}):
        if any(needle in record.payload for needle in needles):
            entry = parse_entry(record.payload)
            header = entry.header
            for idx, (operation, outcome) in enumerate(zip(entry.operations, header.outcomes, strict=True)):
                yield Step(header.time_ms, partition, header.seq, idx, operation, outcome)
