"""Reads what Redis holds for a partition while the partition is being written.

One transaction over whole hashes would give a consistent image. But it would stop the node, with every other
partition on it, for as long as its largest hash takes: 100,000 accounts take tens of milliseconds, a day's dedupe
answers many seconds. So the image is taken in parts. Each part is one MULTI/EXEC that reads a bounded piece of one
hash (HSCAN) and `meta`. So a part is exactly true at the seq in its `meta`, and can be compared with the journal
folded to that seq. The price is that the parts have different seqs.

Nothing is missed. HSCAN returns every field that exists from its beginning to its end, and fields are never deleted,
or never come back. So every field that existed at the first part is in some part, unless it is gone by the last one.
The names of the keys are read with the first part. How each key is read: `redis_store/layout.py`. A key that is not
in there is reported, and not read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import redis

from wallet_engine.domain.errors import WalletError
from wallet_engine.domain.key_names import META
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.layout import Reading, is_known, key_of, scan_command
from wallet_engine.routing.slots import slot_of

#: Fields per HSCAN; takes half a millisecond of Redis time (1000 of a hash of 500,000 took 0.9 ms).
FIELDS_PER_PART: Final = 500
#: Limit of keys per partition. It has three keys, two windows and one hash per currency.
KEYS_MAX: Final = 1000
#: How often an image is started again because the partition was recovered or its window changed meanwhile.
ATTEMPTS_MAX: Final = 5


class Unsteady(WalletError):
    """The partition was recovered, or its window changed, in every attempt to read it."""


@dataclass(frozen=True, slots=True)
class Part:
    """Fields of one hash (`kind`: its key without the tag) and the whole of `meta`, at one moment."""

    kind: str
    fields: dict[str, str]
    meta: dict[str, str]
    #: Redis TIME.
    time_ms: int

    @property
    def seq(self) -> int:
        """The sequence number at which the part is true; -1 when `meta` has none."""
        text = self.meta.get("seq", "")
        return int(text) if text.isascii() and text.isdigit() else -1


@dataclass(slots=True)
class PartitionImage:
    """Everything that Redis holds for one partition, except its stream."""

    partition: int
    #: Keys without their tag, at the first part.
    kinds: frozenset[str]
    #: In the order in which they were taken; the first one is of `meta` alone.
    parts: list[Part]

    def __repr__(self) -> str:
        seqs = f"{self.first.seq}..{self.last.seq}"
        return f"<PartitionImage p={self.partition} seq={seqs} parts={len(self.parts)} {self.state}>"

    @property
    def first(self) -> Part:
        return self.parts[0]

    @property
    def last(self) -> Part:
        return self.parts[-1]

    @property
    def lost(self) -> bool:
        """Whether `meta` is missing or has no seq: Redis was emptied, or never served this partition."""
        return any(part.seq < 0 for part in self.parts)

    @property
    def epoch(self) -> str | None:
        return self.first.meta.get("epoch")

    @property
    def state(self) -> str:
        """`live`, `moving` or `recovering`; `absent` without a `meta`."""
        return self.first.meta.get("state", "absent")

    def fields_of(self, kind: str) -> set[str]:
        """The names of all fields of one hash, over all parts."""
        return {name for part in self.parts if part.kind == kind for name in part.fields}


def take_image(client: redis.Redis, partition: int, keys: PartitionKeys) -> PartitionImage:
    """The image of one partition, from the primary of its shard.

    Raises what redis-py raises, and `Unsteady`.
    """
    for _attempt in range(ATTEMPTS_MAX):
        image = _take_once(client, partition, keys)
        if image is not None:
            return image
    raise Unsteady(f"partition {partition} changed hands {ATTEMPTS_MAX} times while it was read: try again")


def _take_once(client: redis.Redis, partition: int, keys: PartitionKeys) -> PartitionImage | None:
    """None when epoch or window changed meanwhile, or the seq went back."""
    image = _begin(client, partition, keys)
    for kind in sorted(filter(is_known, image.kinds)):
        if key_of(kind).reading not in (Reading.PIECES, Reading.FROZEN):
            continue
        for part in _scan(client, keys, kind):
            if _changed_hands(image.last, part):
                return None
            image.parts.append(part)
    return image


def _begin(client: redis.Redis, partition: int, keys: PartitionKeys) -> PartitionImage:
    with client.pipeline(transaction=True) as pipe:
        pipe.hgetall(keys.meta)
        pipe.time()
        pipe.execute_command("CLUSTER", "GETKEYSINSLOT", slot_of(keys.tag), KEYS_MAX)  # type: ignore[no-untyped-call]
        meta, time, names = pipe.execute()
    kinds = frozenset(name.removesuffix(f"{{{keys.tag}}}") for name in names)
    return PartitionImage(partition, kinds, [Part(META, {}, meta, _ms(time))])


def _scan(client: redis.Redis, keys: PartitionKeys, kind: str) -> Iterator[Part]:
    cursor, first = 0, True
    while first or cursor:
        with client.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.meta)
            pipe.time()
            if scan_command(kind) == "ZSCAN":
                pipe.zscan(f"{kind}{{{keys.tag}}}", cursor, count=FIELDS_PER_PART)
            else:
                pipe.hscan(f"{kind}{{{keys.tag}}}", cursor, count=FIELDS_PER_PART)
            meta, time, (cursor, fields) = pipe.execute()
            if isinstance(fields, list):
                fields = {member: f"{score:.0f}" for member, score in fields}
        first = False
        yield Part(kind, fields, meta, _ms(time))


def _ms(time: tuple[int, int]) -> int:
    return time[0] * 1000 + time[1] // 1000


def _changed_hands(before: Part, part: Part) -> bool:
    same = all(before.meta.get(name) == part.meta.get(name) for name in ("epoch", "window"))
    return not same or part.seq < before.seq
