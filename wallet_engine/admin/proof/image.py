"""What Redis holds for a partition, read while it is being written.

One transaction over whole hashes would be a consistent image, and would stop the node, and every other
partition on it, for as long as its largest hash takes: 100,000 accounts are tens of milliseconds, a day's
dedupe answers many seconds. So the image is taken in parts. Each part is one MULTI/EXEC of a bounded piece of
one hash (HSCAN) and of `meta`, hence exactly true at the sequence number that `meta` says, and the journal can
be folded to that number and compared with it. The price is that the parts are true at different numbers.

Nothing is missed that way: HSCAN returns every field that was there from its beginning to its end, and fields are
never deleted, or never come back. So every field that existed at the first part must be in some part, unless it is gone
by the last one.
The names of the keys are read with the first part. Which key is read how: `redis_store/layout.py`. A key that is not
in there is named, and not read.
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

#: Fields asked of one HSCAN: half a millisecond of Redis time (1000 of a hash of 500,000 were measured at 0.9 ms).
FIELDS_PER_PART: Final = 500
#: A partition has three keys, two windows and one hash per currency; what is above this is noise.
KEYS_MAX: Final = 1000
#: How often an image is begun again because the partition was recovered or rotated its window meanwhile.
ATTEMPTS_MAX: Final = 5


class Unsteady(WalletError):
    """The partition changed hands, again and again, while it was read."""


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
        """The sequence number at which it is true; -1 when `meta` does not say."""
        text = self.meta.get("seq", "")
        return int(text) if text.isascii() and text.isdigit() else -1


@dataclass(slots=True)
class PartitionImage:
    """Everything Redis holds for one partition but its stream."""

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
        """Whether `meta` is gone or says no sequence number: Redis was emptied, or never served this."""
        return any(part.seq < 0 for part in self.parts)

    @property
    def epoch(self) -> str | None:
        return self.first.meta.get("epoch")

    @property
    def state(self) -> str:
        """`live`, `moving` or `recovering`; `absent` without a `meta`."""
        return self.first.meta.get("state", "absent")

    def fields_of(self, kind: str) -> set[str]:
        """The names of all fields seen of one hash."""
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
    """None when epoch or window changed on the way, or the sequence number went back."""
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
