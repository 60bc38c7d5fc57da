"""Finds the payers of a transfer when only its id is known."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import redis
from redis.exceptions import RedisError

from wallet_engine.admin.survey import Survey
from wallet_engine.domain.entry import parse_entry
from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.domain.kinds import Id, kind_of
from wallet_engine.domain.memory import TransferRecord
from wallet_engine.journal.lookup import find_entries
from wallet_engine.journal.reader import read
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.stream import stream_entries
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.slots import tag_of

#: Remembered fields that Redis scans in one call.
FIELDS_PER_CALL: Final = 5_000


def payers_of(found: Survey, journal: Path | None, packed: str) -> list[str]:
    """The accounts that paid a transfer of this id: from the memory in Redis, or else from the whole journal.

    Raises `ConfigError` when a shard does not answer and there is no journal to read.
    """
    payers: set[str] = set()
    silent = []
    for state in found.shards:
        partitions = [p.partition for p in found.partitions if p.shard == state.shard.name]
        if state.primary is None:
            silent.append(state.shard.name)
            continue
        client = connect(state.primary.address)
        try:
            for partition in partitions:
                keys = PartitionKeys(tag_of(partition, found.config.partitions))
                for record in _records(client, keys, packed):
                    payers.add(_payer(client, keys, partition, record, journal))
        except (RedisError, OSError):
            silent.append(state.shard.name)
        finally:
            client.close()
    payers.discard("")
    if not payers and journal is not None:
        payers.update(_in_journal(journal, packed))
    elif not payers and silent:
        raise ConfigError(f"shards {', '.join(silent)} cannot be asked: give --from, or --journal DIR")
    return sorted(payers)


def _records(client: redis.Redis, keys: PartitionKeys, packed: str) -> Iterator[TransferRecord]:
    window = int(client.hget(keys.meta, "window") or 1)
    for number in (window, window - 1):
        for _, text in client.hscan_iter(keys.seen(number), match=f"{packed}*", count=FIELDS_PER_CALL):
            yield TransferRecord.parse(str(text))


def _payer(
    client: redis.Redis, keys: PartitionKeys, partition: int, record: TransferRecord, journal: Path | None
) -> str:
    """The payer in the entry of that record, from the stream or the journal; empty when neither has the entry."""
    stream = client.xrange(keys.journal, f"{record.seq}-0", f"{record.seq}-0")
    if stream:
        payload = stream_entries(stream)[0].payload
    elif journal is not None:
        place = (partition, record.seq)
        found = find_entries(journal, [place])
        if place not in found:
            return ""
        payload = found[place]
    else:
        return ""
    return parse_entry(payload).operations[record.idx].account


def _in_journal(directory: Path, packed: str) -> Iterator[str]:
    wanted = packed.encode()
    for record in read(directory, verify=False):
        if wanted not in record.payload:
            continue
        try:
            operations = parse_entry(record.payload).operations
        except Corruption:
            continue
        for operation in operations:
            kind = kind_of(operation.kind)
            if operation.id == packed and kind.remembered and kind.id is Id.TRANSACTION:
                yield operation.account
