"""Lists entries with outgoing money that is not settled, and what each of their transfers waits for. Asks Redis.

A debit is in `open` from its entry until its settle. The outcome of its credit is in the memory of the receiver's
partition (`domain.memory.credit_memory`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final

import redis
from redis.exceptions import RedisError

from wallet_engine.admin.survey import PartitionStatus, ShardState, Survey
from wallet_engine.admin.tracing.telling import outcome_text
from wallet_engine.domain.entry import outgoing, parse_entry
from wallet_engine.domain.errors import Corruption, NewerFormat, text_of
from wallet_engine.domain.ids import unpack_transaction_id
from wallet_engine.domain.kinds import receiver_of
from wallet_engine.domain.memory import credit_memory, credit_outcome
from wallet_engine.domain.money import format_amount
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.open_members import MEMBERS_PER_CALL
from wallet_engine.redis_store.stream import stream_entries
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.homes import Homes
from wallet_engine.routing.slots import tag_of

#: Open entries to examine in one partition, the oldest first.
ENTRIES_PER_PARTITION_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class OpenTransfer:
    """One debit of an open entry."""

    idx: int
    operation: Operation
    #: The receiver's partition.
    to_partition: int
    waits_for: str = ""

    def document(self) -> dict[str, Any]:
        o = self.operation
        return {
            "transaction_id": unpack_transaction_id(o.id),
            "from_account": o.account,
            "to_account": receiver_of(o),
            "amount": format_amount(o.amount_minor, o.currency),
            "currency": o.currency,
            "to_partition": self.to_partition,
            "waits_for": self.waits_for,
        }


@dataclass(frozen=True, slots=True)
class OpenEntry:
    """`age_ms` by the clock of its Redis node; None when that clock was set back, so that the age is unknown.

    An entry that is not in the stream has neither an age nor transfers, nor has one that cannot be read:
    `unreadable` says why.
    """

    partition: int
    seq: int
    age_ms: int | None
    transfers: tuple[OpenTransfer, ...]
    in_stream: bool = True
    unreadable: str = ""


def find_open_entries(found: Survey) -> list[OpenEntry]:
    """Entries of unknown age, then the oldest first. Skips shards that do not answer: the survey names them."""
    count = found.config.partitions
    status = {partition.partition: partition for partition in found.partitions}
    entries: list[OpenEntry] = []
    for state in found.shards:
        with _client(state) as client:
            if client is not None:
                wanted = [
                    p.partition for p in found.partitions if p.shard == state.shard.name and p.open_entries
                ]
                entries += _of_shard(client, wanted, count)
    entries = list(_with_reasons(found, entries, status))
    return sorted(entries, key=lambda entry: -inf if entry.age_ms is None else -entry.age_ms)


def _of_shard(client: redis.Redis, partitions: Sequence[int], count: int) -> list[OpenEntry]:
    found = []
    for partition in partitions:
        keys = PartitionKeys(tag_of(partition, count))
        try:
            seqs, refunded = oldest(client, keys.open)
            with client.pipeline(transaction=False) as pipe:
                pipe.time()
                for seq in seqs:
                    pipe.xrange(keys.journal, f"{seq}-0", f"{seq}-0")
                (seconds, micros), *streams = pipe.execute()
        except (RedisError, OSError):
            continue
        now_ms = seconds * 1000 + micros // 1000
        for seq, stream in zip(seqs, streams, strict=True):
            found.append(_entry(partition, seq, now_ms, stream, refunded, count))
    return found


def oldest(client: redis.Redis, key: str) -> tuple[list[int], set[str]]:
    """The oldest open entries, and the refund markers among them (members `seq.idx`)."""
    members: set[str] = set()
    start = "-inf"
    while True:
        page = [str(each) for each in client.zrangebyscore(key, start, "+inf", 0, MEMBERS_PER_CALL)]
        members.update(page)
        seqs = sorted(int(member) for member in members if "." not in member)
        if len(page) < MEMBERS_PER_CALL or len(seqs) > ENTRIES_PER_PARTITION_MAX:
            return seqs[:ENTRIES_PER_PARTITION_MAX], {member for member in members if "." in member}
        start = page[-1].partition(".")[0]  # read this seq again: more of its markers may follow


def _entry(
    partition: int, seq: int, now_ms: int, stream: list[Any], refunded: set[str], count: int
) -> OpenEntry:
    if not stream:
        return OpenEntry(partition, seq, None, (), in_stream=False)
    try:
        entry = parse_entry(stream_entries(stream)[0].payload)
    except (Corruption, NewerFormat) as error:
        return OpenEntry(partition, seq, None, (), unreadable=text_of(error))
    transfers = tuple(
        OpenTransfer(
            idx,
            operation,
            Homes(count).of_receiver(receiver_of(operation), partition),
            "the settle (refunded)" if f"{seq}.{idx}" in refunded else "",
        )
        for idx, operation in outgoing(entry)
    )
    age_ms = now_ms - entry.header.time_ms
    return OpenEntry(partition, seq, age_ms if age_ms >= 0 else None, transfers)


def _with_reasons(
    found: Survey, entries: list[OpenEntry], status: Mapping[int, PartitionStatus]
) -> Iterator[OpenEntry]:
    wanted = {
        (t.to_partition, credit_memory(f"{e.partition}.{e.seq}", t.idx)[0])
        for e in entries
        for t in e.transfers
        if not t.waits_for
    }
    records = received(found, wanted)
    for entry in entries:
        transfers = []
        for transfer in entry.transfers:
            if not transfer.waits_for:
                field, mark = credit_memory(f"{entry.partition}.{entry.seq}", transfer.idx)
                record = records.get((transfer.to_partition, field))
                reason = _reason(mark, record, status[transfer.to_partition])
                transfers.append(replace(transfer, waits_for=reason))
            else:
                transfers.append(transfer)
        yield replace(entry, transfers=tuple(transfers))


def _reason(mark: str, record: str | None, to: PartitionStatus) -> str:
    where = f"partition {to.partition} on {to.shard}"
    if record is None:
        return f"the credit: {where} does not answer"
    outcome = credit_outcome(record, mark)
    if outcome is None:
        return f"the credit in {where}" + ("" if to.state == "live" else f", which is {to.state}")
    if outcome == Outcome.APPLIED:
        return "the settle (paid)"
    return f"the refund ({outcome_text(outcome)})"


def received(found: Survey, wanted: set[tuple[int, str]]) -> dict[tuple[int, str], str]:
    """(partition, field of `credit_memory`) -> what the partition remembers there; without those that do not answer."""
    records: dict[tuple[int, str], str] = {}
    count = found.config.partitions
    for state in found.shards:
        mine = [w for w in sorted(wanted) if found.partitions[w[0]].shard == state.shard.name]
        with _client(state) as client:
            if client is None or not mine:
                continue
            for partition, field in mine:
                try:
                    values = remembered(client, PartitionKeys(tag_of(partition, count)), field)
                except (RedisError, OSError):
                    continue
                records[partition, field] = "".join(values)
    return records


def remembered(client: redis.Redis, keys: PartitionKeys, field: str) -> list[str]:
    """The values of a field in the two present windows, the newer first. Raises what redis-py raises."""
    window = int(client.hget(keys.meta, "window") or 1)
    values = [client.hget(keys.seen(number), field) for number in (window, window - 1)]
    return [str(value) for value in values if value is not None]


@contextmanager
def _client(state: ShardState) -> Iterator[redis.Redis | None]:
    if state.primary is None:
        yield None
        return
    client = connect(state.primary.address)
    try:
        yield client
    finally:
        client.close()
