"""A whole past state, folded from the journal: every partition at a sequence number or a time."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import redis
from redis.exceptions import RedisError

from wallet_engine.admin.proof.fold import JournalFold, Progress
from wallet_engine.admin.proof.past_balance import AtSeq, AtTime, first_entry_text
from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.domain.ids import is_system
from wallet_engine.domain.money import format_amount
from wallet_engine.domain.oracle_state import (
    PartitionState,
    RedisImage,
    image_digest,
    image_lines,
    redis_image,
)
from wallet_engine.domain.times import time_text
from wallet_engine.redis_store.layout import KeyType, key_of
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.slots import tag_of

#: Fields written by one command.
FIELDS_PER_CALL: Final = 500
REDIS_TIMEOUT_S: Final = 30.0
TOTALS_NAME: Final = "totals.json"


@dataclass(frozen=True, slots=True)
class PastState:
    """States by partition, without partitions that had no entries yet."""

    states: Mapping[int, PartitionState]
    entries: int

    def totals(self) -> dict[str, Any]:
        """The position and digest of each partition, and the sums over all of them.

        The sum of `accounts` includes what is held. `pending` is there where money is: it is no account's yet.
        """
        sums: dict[str, dict[str, int]] = {}
        for state in self.states.values():
            for currency, book in state.balances.items():
                of = sums.setdefault(currency, {"accounts": 0})
                for account, minor in book.items():
                    name = account if is_system(account) else "accounts"
                    of[name] = of.get(name, 0) + minor
            for name, books in (("accounts", state.held), ("pending", state.pending)):
                for currency, book in books.items():
                    if total := sum(book.values()):
                        of = sums.setdefault(currency, {"accounts": 0})
                        of[name] = of.get(name, 0) + total
        return {
            "entries": self.entries,
            "partitions": [
                {
                    "partition": partition,
                    "seq": state.seq,
                    "nonce": state.nonce,
                    "time": time_text(state.clock),
                    "open_entries": len(state.open),
                    "sha256": image_digest(redis_image(state)),
                }
                for partition, state in sorted(self.states.items())
            ],
            "totals": {
                currency: {name: format_amount(minor, currency) for name, minor in sorted(of.items())}
                for currency, of in sorted(sums.items())
            },
        }


def past_state(
    journal: Path,
    partitions: Collection[int],
    at: AtSeq | AtTime | None,
    durable: Mapping[int, int] | None,
    progress: Progress | None = None,
) -> PastState:
    """The states of these partitions; without `at`, at the end of the journal (`durable`: partition -> seq).

    `AtSeq` is for exactly one partition. Raises `ConfigError` when the journal ends before, and
    `Corruption` when it is damaged or inconsistent.
    """
    fold = JournalFold(journal)
    end: dict[int, int] | None = None
    if isinstance(at, AtSeq):
        end = dict.fromkeys(partitions, at.seq)
    elif at is None and durable is not None:
        end = {partition: durable.get(partition, 0) for partition in partitions}
    until_ms = at.time_ms if isinstance(at, AtTime) else None
    fold.run(partitions=partitions, end=end, until_ms=until_ms, progress=progress)
    if not fold.sound:
        why = fold.damage or next(iter(fold.broken.values()))
        raise Corruption(f"the journal is damaged, see wallet-admin verify --offline: {why}")
    if isinstance(at, AtSeq):
        for partition in partitions:
            if fold.seq(partition) < at.seq:
                raise ConfigError(
                    f"partition {partition} ends at seq {fold.seq(partition)}: there is no {at.seq}"
                )
    states = {partition: state for partition, state in fold.states.items() if state.seq}
    if not states and isinstance(at, AtTime):
        raise ConfigError(
            f"nothing had happened by {time_text(at.time_ms)}, {first_entry_text(journal, partitions)}: "
            f"give --at a later time"
        )
    for state in states.values():
        state.check()
    return PastState(states, fold.entries)


def write_directory(past: PastState, directory: Path) -> None:
    """Write `partition-00003.tsv` (key, field, value, sorted) for each partition, and `totals.json`.

    The SHA-256 in the totals is the file's. Raises `ConfigError` when the directory is not empty.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise ConfigError(f"{directory} is not empty: give --into an empty or a new directory")
        for partition, state in past.states.items():
            with open(
                directory / f"partition-{partition:05d}.tsv", "w", encoding="utf-8", newline=""
            ) as file:
                file.writelines(image_lines(redis_image(state)))
        totals = msgspec.json.format(msgspec.json.encode(past.totals()), indent=2)
        (directory / TOTALS_NAME).write_bytes(totals + b"\n")
    except OSError as error:
        raise ConfigError(f"{directory} cannot be written: {error.strerror}") from error


def write_redis(past: PastState, address: str, partitions: int) -> None:
    """Write every key under its name in the cluster. `meta` has no state, so no service treats it as live.

    Raises `ConfigError` when the Redis is not empty or answers with an error.
    """
    client = connect(address, timeout_s=REDIS_TIMEOUT_S)
    try:
        if client.dbsize():
            raise ConfigError(f"the Redis at {address} is not empty: give --into one that is")
        for partition, state in past.states.items():
            _write_image(client, redis_image(state), tag_of(partition, partitions))
    except (RedisError, OSError) as error:
        raise ConfigError(f"the Redis at {address} says {' '.join(str(error).split())}") from error
    finally:
        client.close()


def _write_image(client: redis.Redis, image: RedisImage, tag: str) -> None:
    for key, fields in image.items():
        name, items = f"{key}{{{tag}}}", list(fields.items())
        with client.pipeline(transaction=False) as pipe:
            for start in range(0, len(items), FIELDS_PER_CALL):
                some = items[start : start + FIELDS_PER_CALL]
                if key_of(key).type is KeyType.SORTED_SET:
                    pipe.zadd(name, {member: int(score) for member, score in some})
                else:
                    pipe.hset(name, items=[word for pair in some for word in pair])
            pipe.execute()
