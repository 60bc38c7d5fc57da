"""The values of the directory: limits, immutability, JSON."""

import json

import pytest

from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.routing import model
from wallet_engine.routing.model import (
    ClusterConfig,
    JournalInfo,
    PartitionEntry,
    PartitionMap,
    ServiceInfo,
    Shard,
    spread,
)

DAY_MS = 86_400_000


@pytest.mark.parametrize("partitions", [0, -1, 3, 63, 8192])
def test_partitions_must_be_a_power_of_two_in_bounds(partitions: int) -> None:
    with pytest.raises(ConfigError, match="power of two"):
        ClusterConfig(partitions=partitions)


def test_retention_and_quorum_have_a_lower_bound() -> None:
    assert ClusterConfig() == ClusterConfig(64, DAY_MS, 1)
    with pytest.raises(ConfigError, match="retention_ms"):
        ClusterConfig(retention_ms=DAY_MS - 1)
    with pytest.raises(ConfigError, match="journal_quorum"):
        ClusterConfig(journal_quorum=0)


@pytest.mark.parametrize("name", ["", "a/b", ".", "-x", "x" * 65, "sh ard", "naïve"])
def test_a_name_must_fit_into_a_path(name: str) -> None:
    with pytest.raises(ConfigError, match="shard name"):
        Shard(name, ("127.0.0.1:6379",))


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":6379", "host:0", "host:65536", "a b:1", "h:1:2", "::1:6379"]
)
def test_an_address_is_host_and_port(address: str) -> None:
    with pytest.raises(ConfigError, match="host:port"):
        ServiceInfo("s", address, 1)


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "redis-1.example.com:1", "[::1]:65535"])
def test_addresses_in_all_their_forms(address: str) -> None:
    assert Shard("s1", (address,)).nodes == (address,)


def test_a_shard_has_nodes_and_they_are_its_own() -> None:
    with pytest.raises(ConfigError, match="no nodes"):
        Shard("s1", ())
    with pytest.raises(ConfigError, match="shard a and in shard b"):
        model.by_name([Shard("a", ("h:1",)), Shard("b", ("h:1",))])
    with pytest.raises(ConfigError, match="named twice"):
        model.by_name([Shard("a", ("h:1",)), Shard("a", ("h:2",))])


@pytest.mark.parametrize(("partitions", "shards"), [(64, 1), (64, 3), (16, 5), (4, 4), (2, 3), (4096, 7)])
def test_spread_gives_contiguous_ranges_of_nearly_equal_size(partitions: int, shards: int) -> None:
    names = [f"s{n}" for n in range(shards)]
    placement = spread(partitions, names)
    owned = [placement.partitions_of(name) for name in names]
    assert [p for ps in owned for p in ps] == list(range(partitions))
    sizes = [len(ps) for ps in owned]
    assert max(sizes) - min(sizes) <= 1
    assert {placement.epoch_of(p) for p in range(partitions)} == {1}


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_spread_needs_distinct_shards(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="at least one shard"):
        spread(4, names)


def test_a_map_is_changed_by_making_another() -> None:
    before = spread(4, ["a", "b"])
    after = before.with_shard(1, "b").with_epochs({1: 5, 3: 1})
    assert [before.shard_of(p) for p in range(4)] == ["a", "a", "b", "b"]
    assert [after.shard_of(p) for p in range(4)] == ["a", "b", "b", "b"]
    assert [after.epoch_of(p) for p in range(4)] == [1, 5, 1, 1]
    assert after.partitions_of("b") == (1, 2, 3)
    assert after.partitions_of("nowhere") == ()


def test_an_epoch_never_goes_down() -> None:
    with pytest.raises(ValueError, match="below 7"):
        spread(2, ["a"]).with_epochs({1: 7}).with_epochs({1: 6})


@pytest.mark.parametrize("partition", [-1, 4])
def test_a_partition_outside_the_map_is_an_error(partition: int) -> None:
    placement = spread(4, ["a"])
    with pytest.raises(ValueError, match="not one of"):
        placement.with_shard(partition, "b")
    with pytest.raises(ValueError, match="not one of"):
        placement.with_epochs({partition: 9})


@pytest.mark.parametrize(
    "value",
    [
        ClusterConfig(16, 2 * DAY_MS, 2),
        Shard("s1", ("10.0.0.1:6379", "10.0.0.2:6379")),
        JournalInfo("j1", "10.0.0.1:7000", "/var/lib/wallet/j1", 4711, "host-a"),
        ServiceInfo("api-1", "10.0.0.1:8080", 4712),
    ],
)
def test_json_and_back(value: ClusterConfig | Shard | JournalInfo | ServiceInfo) -> None:
    data = model.encode(value)
    assert model.decode(data, type(value), "/x") == value
    newer = json.dumps(json.loads(data) | {"added_later": 1}).encode()
    assert model.decode(newer, type(value), "/x") == value


def test_the_version_of_a_map_is_the_stores_and_not_in_the_json() -> None:
    data = model.encode_map(PartitionMap(41, spread(2, ["a"]).partitions))
    assert json.loads(data) == {"partitions": [{"shard": "a", "epoch": 1}] * 2}
    assert model.decode_map(data, 7, "/x") == PartitionMap(7, (PartitionEntry("a", 1),) * 2)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"\xff", b'{"partitions": 4.5}', b'{"partitions": "4"}', b'{"partitions": null}'],
)
def test_bytes_that_are_no_config_are_corruption_that_names_the_path(data: bytes) -> None:
    with pytest.raises(Corruption, match=r"/wallet/config does not hold a ClusterConfig"):
        model.decode(data, ClusterConfig, "/wallet/config")


def test_a_config_out_of_bounds_in_the_store_names_the_path() -> None:
    with pytest.raises(ConfigError, match=r"/wallet/config: partitions must"):
        model.decode(b'{"partitions": 5}', ClusterConfig, "/wallet/config")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"partitions": []}',
        b'{"partitions": [{"shard": "a"}]}',
        b'{"partitions": [{"shard": "a", "epoch": "1"}]}',
    ],
)
def test_bytes_that_are_no_map_are_corruption(data: bytes) -> None:
    with pytest.raises(Corruption, match="/wallet/map"):
        model.decode_map(data, 0, "/wallet/map")
