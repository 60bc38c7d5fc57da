"""The slots that each shard must have before a cluster can be written into the directory."""

import pytest

from wallet_engine.admin.nodes import NodeState, memory_text, slots_text
from wallet_engine.admin.placement import needed_slots, parse_shard, plan_shards
from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store.topology import NodeView
from wallet_engine.routing.model import Shard, spread


def primary(address: str, *slots: range, ok: bool = True, epoch: int = 1) -> NodeState:
    return NodeState(address, view=NodeView(address, address, True, epoch, slots), cluster_ok=ok)


def replica(address: str) -> NodeState:
    return NodeState(address, view=NodeView(address, address, False, 1, ()), cluster_ok=True)


LOW, HIGH = range(0, 8192), range(8192, 16384)
A, B = Shard("a", ("h:1", "h:2")), Shard("b", ("h:3",))


def plan(*nodes: NodeState) -> list[tuple[str, str, tuple[int, ...], str]]:
    seen = {
        node.address: node for node in (primary("h:1", LOW), replica("h:2"), primary("h:3", HIGH), *nodes)
    }
    planned = plan_shards([A, B], spread(4, ["a", "b"]), seen)
    return [(s.shard.name, s.primary.address, s.partitions, slots_text(s.slots)) for s in planned]


def test_slots_lie_as_needed() -> None:
    wanted = [("a", "h:1", (0, 1), "0-8191"), ("b", "h:3", (2, 3), "8192-16383")]
    assert plan() == wanted
    assert plan(replica("h:1"), primary("h:2", LOW))[0][1] == "h:2"
    # A shard may have more slots than it needs, if no other shard needs them.
    assert plan(primary("h:1", range(0, 4096), range(4096, 8192))) == wanted


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([NodeState("h:2", trouble="no route")], r"Redis at h:2 \(shard a\) does not answer: no route"),
        ([replica("h:1")], r"shard a has only replicas \(h:1, h:2\)"),
        ([primary("h:2")], "shard a has two primaries, h:1 and h:2"),
        ([primary("h:1", LOW, ok=False)], "Redis at h:1 says cluster_state:fail"),
        (
            [primary("h:1", range(0, 8100))],
            r"^slots 8100-8191 must be on shard a \(h:1\) and are on none of the shards: wallet-admin cluster form",
        ),
        (
            [primary("h:1", range(0, 5461)), primary("h:3", range(5461, 16384))],
            r"slots 5461-8191 must be on shard a \(h:1\) and are on shard b: .*redis-cli --cluster reshard",
        ),
        (
            [primary("h:1", HIGH), primary("h:3", LOW)],
            r"slots 0-8191 must be on shard a .* on shard b; slots 8192-16383 must be on shard b .* on shard a",
        ),
        (
            [primary("h:1", range(0, 16384)), primary("h:3", range(0, 16384))],
            "slot 0 is owned by shard a and by shard b: they are not one Redis Cluster",
        ),
    ],
)
def test_what_has_to_be_mended_is_named(nodes: list[NodeState], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(*nodes)


def test_needed_slots_follow_the_spread() -> None:
    placement = spread(64, ["a", "b", "c"])
    needed = [slots_text(needed_slots(placement, name)) for name in "abc"]
    assert needed == ["0-5375", "5376-10751", "10752-16383"]


def test_shard_text() -> None:
    assert parse_shard("s1=h:1,[::1]:2") == Shard("s1", ("h:1", "[::1]:2"))


@pytest.mark.parametrize(
    "text", ["", "s1", "=h:1", "s1=", "s1=h", "s1=h:0", "s1=h:1,", "s/1=h:1", "s1=h:70000"]
)
def test_shard_text_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_shard(text)


@pytest.mark.parametrize(
    ("used_bytes", "text"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**50, "1024.0 TiB")],
)
def test_memory(used_bytes: int | None, text: str) -> None:
    assert memory_text(used_bytes) == text
