"""Accounts -> slots -> partitions, and the hash tags."""

import time

import pytest

from wallet_engine.routing import slots

POWERS = [2**n for n in range(13)]


@pytest.mark.parametrize(
    ("key", "slot"),
    # From the Redis Cluster specification (CRC16 of 123456789 is 0x31C3) and `CLUSTER KEYSLOT`.
    [("123456789", 0x31C3), ("foo", 12182), ("bar", 5061), ("hello", 866), ("", 0)],
)
def test_slot_is_that_of_redis(key: str, slot: int) -> None:
    assert slots.slot_of(key) == slot


@pytest.mark.parametrize("partitions", POWERS)
def test_ranges_cover_every_slot_once(partitions: int) -> None:
    ranges = [slots.slot_range(p, partitions) for p in range(partitions)]
    assert [slot for r in ranges for slot in r] == list(range(16384))
    for p, r in enumerate(ranges):
        assert slots.partition_of_slot(r[0], partitions) == p
        assert slots.partition_of_slot(r[-1], partitions) == p


@pytest.mark.parametrize("partitions", [1, 64, 4096])
def test_partition_of_an_account_is_that_of_its_slot(partitions: int) -> None:
    for n in range(500):
        account = f"acct-{n}"
        slot = slots.slot_of(account)
        assert slots.partition_of(account, partitions) == slots.partition_of_slot(slot, partitions)
        assert slot in slots.slot_range(slots.partition_of(account, partitions), partitions)


@pytest.mark.parametrize("partitions", [1, 2, 64])
def test_a_tag_is_the_smallest_number_in_the_first_slot_of_its_range(partitions: int) -> None:
    for p in range(partitions):
        tag = slots.tag_of(p, partitions)
        first = slots.slot_range(p, partitions)[0]
        assert tag == next(str(n) for n in range(10**6) if slots.slot_of(str(n)) == first)


def test_the_tags_of_the_largest_cluster_are_distinct_and_quick() -> None:
    slots._tags.cache_clear()
    begin = time.perf_counter()
    tags = [slots.tag_of(p, 4096) for p in range(4096)]
    assert time.perf_counter() - begin < 1.0
    assert len(set(tags)) == 4096
    assert all(slots.slot_of(tag) == p * 4 for p, tag in enumerate(tags))


@pytest.mark.parametrize(
    ("partition", "partitions"), [(-1, 64), (64, 64), (0, 0), (0, 3), (0, 8192), (0, -2)]
)
def test_what_does_not_exist_is_an_error(partition: int, partitions: int) -> None:
    with pytest.raises(ValueError, match="partition"):
        slots.tag_of(partition, partitions)
    with pytest.raises(ValueError, match="partition"):
        slots.slot_range(partition, partitions)
