"""Account -> slot -> partition, and the hash tag that keeps a partition's keys in one slot.

A slot is Redis Cluster's: CRC16 (XMODEM: polynomial 0x1021, start 0) modulo 16384, which `binascii.crc_hqx`
computes in C. Partition p of P (a power of two) owns the slots [p*16384/P, (p+1)*16384/P).
"""

from binascii import crc_hqx
from collections.abc import Iterable
from functools import cache
from itertools import count
from typing import Final

from wallet_engine.domain.limits import PARTITIONS_MAX, SLOTS

_SLOT_MASK: Final = SLOTS - 1
_SLOT_BITS: Final = SLOTS.bit_length() - 1


def slot_of(key: str) -> int:
    """The slot of a key without braces, as `CLUSTER KEYSLOT` gives it."""
    return crc_hqx(key.encode(), 0) & _SLOT_MASK


def slot_of_name(name: bytes) -> int:
    """The slot of any key; only text in its first braces counts, if any (redis.io, cluster specification)."""
    tag, brace, _ = name.partition(b"{")[2].partition(b"}")
    return crc_hqx(tag if tag and brace else name, 0) & _SLOT_MASK


def partition_of_slot(slot: int, partitions: int) -> int:
    """The partition whose range holds the slot; `partitions` is a power of two."""
    return slot * partitions >> _SLOT_BITS


def partition_of(account_id: str, partitions: int) -> int:
    """The partition of an account; `partitions` is a power of two."""
    return (crc_hqx(account_id.encode(), 0) & _SLOT_MASK) * partitions >> _SLOT_BITS


def partitions_of(account_ids: Iterable[str], partitions: int) -> list[int]:
    """`partition_of` each."""
    below = _SLOT_BITS + 1 - partitions.bit_length()
    return [(crc_hqx(account_id.encode(), 0) & _SLOT_MASK) >> below for account_id in account_ids]


def slot_range(partition: int, partitions: int) -> range:
    """The slots that partition owns. Raises `ValueError` for a partition that does not exist."""
    _check(partition, partitions)
    width = SLOTS // partitions
    return range(partition * width, (partition + 1) * width)


def tag_of(partition: int, partitions: int) -> str:
    """The hash tag of a partition: the smallest decimal number whose slot is the first of its range."""
    _check(partition, partitions)
    return _tags(partitions)[partition]


def valid_partitions(partitions: int) -> bool:
    """Whether a cluster can have this many partitions: a power of two, 1 to `PARTITIONS_MAX`."""
    return 1 <= partitions <= PARTITIONS_MAX and partitions & (partitions - 1) == 0


def _check(partition: int, partitions: int) -> None:
    if not valid_partitions(partitions):
        raise ValueError(f"{partitions} is not a number of partitions")
    if not 0 <= partition < partitions:
        raise ValueError(f"partition {partition} is not one of 0..{partitions - 1}")


@cache
def _tags(partitions: int) -> tuple[str, ...]:
    width = SLOTS // partitions
    found: dict[int, str] = {}
    for number in count():
        slot = crc_hqx(b"%d" % number, 0) & _SLOT_MASK
        if slot % width == 0 and slot not in found:
            found[slot] = str(number)
            if len(found) == partitions:
                break
    return tuple(found[partition * width] for partition in range(partitions))
