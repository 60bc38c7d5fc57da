"""Lists groups that are under way, and what each waits for. Asks Redis."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import redis
from redis.exceptions import RedisError, ResponseError

from wallet_engine.admin.survey import Survey
from wallet_engine.domain.entry import parse_header
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.groups import COMMITTED, Record, parse_record
from wallet_engine.domain.ids import unpack_transaction_id
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.stream import stream_entries
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.homes import Homes
from wallet_engine.routing.slots import tag_of

#: Records to examine in one partition.
RECORDS_PER_PARTITION_MAX: Final = 200
_ID_LENGTH: Final = 22


@dataclass(frozen=True, slots=True)
class OpenGroup:
    """The record of a group in one partition; None if it cannot be read: then `waits_for` says why."""

    partition: int
    transaction_id: str
    record: Record | None
    waits_for: str
    #: By the clock of its Redis node; None when its entry is no longer in the stream, or that clock was set back.
    age_ms: int | None
    #: Without an age: it is older than a later entry, which has this age.
    at_least_ms: int = 0

    def document(self) -> dict[str, Any]:
        record = self.record
        state = "unreadable" if record is None else "committed" if record.status == COMMITTED else "prepared"
        return {
            "transaction_id": self.transaction_id,
            "from_account": None if record is None else record.payer,
            "partition": self.partition,
            "seq": None if record is None else record.seq,
            "age_ms": self.age_ms,
            "state": state,
            "legs": None if record is None else len(record.words.legs),
            "waits_for": self.waits_for,
        }


def find_open_groups(found: Survey) -> list[OpenGroup]:
    """Sorted by partition. Skips shards that do not answer: the survey names them."""
    groups: list[OpenGroup] = []
    for state in found.shards:
        if state.primary is None:
            continue
        mine = [p.partition for p in found.partitions if p.shard == state.shard.name]
        client = connect(state.primary.address)
        try:
            for partition in mine:
                with suppress(
                    ResponseError
                ):  # its slot is on another node, or half moved: others still answer
                    groups += _of_partition(client, partition, found)
        except (RedisError, OSError):
            continue
        finally:
            client.close()
    return sorted(groups, key=lambda group: (group.partition, group.record.seq if group.record else 0))


def seen_twice(before: Iterable[OpenGroup], now: Iterable[OpenGroup]) -> list[OpenGroup]:
    """The groups that an earlier look had found, too. A group that a process drives takes milliseconds."""
    known = {(group.partition, group.transaction_id, group.record) for group in before}
    return [group for group in now if (group.partition, group.transaction_id, group.record) in known]


def _of_partition(client: redis.Redis, partition: int, found: Survey) -> Iterator[OpenGroup]:
    count = found.config.partitions
    keys = PartitionKeys(tag_of(partition, count))
    for key, text in islice(client.hscan_iter(keys.group, count=100), RECORDS_PER_PARTITION_MAX):
        packed = str(key)[:_ID_LENGTH]
        try:
            record = parse_record(str(text))
        except Corruption as error:
            yield OpenGroup(partition, _id_of(packed), None, f"an operator: {error}", None)
            continue
        homes = Homes(count)
        if record.status == COMMITTED:
            waits_for = "its parts to pay: " + ", ".join(_parts(found, homes, partition, record, packed))
        else:
            waits_for = f"the decision of {_place(found, homes.of_payer(record.payer, packed))}"
        age_ms, at_least_ms = _age(client, keys, record.seq)
        yield OpenGroup(partition, _id_of(packed), record, waits_for, age_ms, at_least_ms)


def _age(client: redis.Redis, keys: PartitionKeys, seq: int) -> tuple[int | None, int]:
    """`age_ms` and `at_least_ms` of the record that entry `seq` has made."""
    stream = client.xrange(keys.journal, f"{seq}-0", "+", count=1)
    written_ms, own = int(client.hget(keys.meta, "clock") or 0), False
    with suppress(Corruption):
        for entry in stream_entries(stream or ()):
            written_ms, own = parse_header(entry.payload).time_ms, entry.seq == seq
    seconds, micros = client.time()
    age_ms = seconds * 1000 + micros // 1000 - written_ms
    return (age_ms, 0) if own and age_ms >= 0 else (None, max(0, age_ms))


def _id_of(packed: str) -> str:
    """The id, or what stands in its place."""
    try:
        return unpack_transaction_id(packed)
    except ValueError:
        return packed


def _parts(found: Survey, homes: Homes, home: int, record: Record, packed: str) -> list[str]:
    partitions = set()
    for leg in record.words.legs:
        payers = homes.of_payer(leg.payer, packed)
        partitions |= {payers, homes.of_receiver(leg.receiver, payers)}
    return [_place(found, partition) for partition in sorted(partitions - {home})]


def _place(found: Survey, partition: int) -> str:
    status = found.partitions[partition]
    state = "" if status.state == "live" else f", which is {status.state}"
    return f"partition {partition} on {status.shard}{state}"
