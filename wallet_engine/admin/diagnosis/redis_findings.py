"""Findings of `doctor` about Redis: its nodes, the owners of slots, and keys that do not belong there.

Nodes are compared by id, never by address.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from wallet_engine.admin.diagnosis.examination import Facts, NodeFacts
from wallet_engine.admin.diagnosis.finding import Finding
from wallet_engine.admin.diagnosis.mends import (
    Line,
    Mend,
    by_hand,
    in_turn,
    redis_cli,
    take_slots,
    wallet_admin,
)
from wallet_engine.admin.diagnosis.strays import shown
from wallet_engine.admin.nodes import NodeState
from wallet_engine.admin.survey import ShardState, shards_by_id
from wallet_engine.domain.addresses import join_address, split_address
from wallet_engine.domain.limits import SLOTS
from wallet_engine.redis_store.refusals import Obstacle
from wallet_engine.redis_store.topology import NodeView, slot_owners
from wallet_engine.routing.slots import partition_of_slot, slot_range

#: The smallest maxmemory to advise for a node without a limit.
MAXMEMORY_BYTES_MIN: Final = 4 << 30
#: Keys named in one finding.
KEYS_NAMED_MAX: Final = 3


def written_anew(*more: str) -> Line:
    """For an old map: Redis, whose partitions were certified under higher epochs, tells where they are."""
    return in_turn(
        wallet_admin("backup", "NOW.json"), wallet_admin("restore", "NOW.json", "--replace", *more)
    )


def more_memory(address: str, maxmemory_bytes: int) -> Line:
    return redis_cli(address, "CONFIG", "SET", "maxmemory", maxmemory_bytes)


def set_clock(address: str) -> Mend:
    return by_hand(f"set the clock of {split_address(address)[0]}, or the one here, whichever is wrong")


def nodes(facts: Facts) -> Iterator[Finding]:
    """every Redis node answers, each shard has its primary, replicas follow it"""
    for state in facts.survey.shards:
        primary = state.primary
        if primary is None or primary.view is None:
            what = f"shard {state.shard.name} has no primary that answers"
            refusing = [node for node in state.nodes if node.refuses]
            what += "".join(f"; Redis at {node.address} {node.trouble}" for node in refusing)
            mend = _mend_refusal(refusing[0]) if refusing else _mend_no_primary(state)
            yield Finding("nodes", "error", what, mend)
            continue
        if not primary.cluster_ok:
            what = f"{primary.address} says that the Redis cluster is down"
            yield Finding("nodes", "error", what, _mend_down(facts.nodes.get(primary.address)))
        for node in state.nodes:
            if node is not primary:
                yield from _other_node(state.shard.name, node, primary.address, primary.view.node_id)


def _other_node(shard: str, node: NodeState, primary: str, primary_id: str) -> Iterator[Finding]:
    if node.refuses:
        what = f"{node.address} of shard {shard} {node.trouble}"
        yield Finding("nodes", "warning", what, _mend_refusal(node))
    elif node.view is None:
        mend = Mend(wallet_admin("replace-node", node.address, "NEW"), "or start redis-server there again")
        yield Finding("nodes", "warning", f"{node.address} of shard {shard} does not answer", mend)
    elif node.view.is_primary:
        what = f"{node.address} of shard {shard} is a primary beside {primary}"
        if node.view.slots:
            mend = by_hand("see the findings about slots; it becomes a replica by itself when it has none")
        elif node.keys:
            mend = by_hand("start it again with an empty --dir: then doctor names a command")
        else:
            mend = Mend(wallet_admin("replace-node", node.address, node.address))
        yield Finding("nodes", "warning", what, mend)
    elif node.view.primary_id != primary_id:
        what = f"replica {node.address} of shard {shard} follows {node.follows}"
        mend = Mend(redis_cli(node.address, "CLUSTER", "REPLICATE", primary_id))
        yield Finding("nodes", "warning", what, mend)
    elif not node.link_up:
        what = f"replica {node.address} of shard {shard} has no link to {primary}"
        said = "and see its log: it connects by itself, or says why not"
        mend = Mend(redis_cli(node.address, "INFO", "replication"), said)
        yield Finding("nodes", "warning", what, mend)


def _mend_refusal(node: NodeState) -> Mend:
    if node.obstacle is Obstacle.TLS:
        return by_hand(
            "compare --redis-ca, --redis-cert and --redis-key with tls-port and tls-ca-cert-file there"
        )
    if node.obstacle is Obstacle.NO_COMMAND:
        return by_hand(
            "the engine needs this command: see rename-command in its redis.conf, or what the provider offers"
        )
    acl = wallet_admin("redis", "acl", "--node", node.address, "--apply", "--admin-password-file", "FILE")
    said = "as a --redis-user that may set users on that node; or give this command the login that the node wants"
    return Mend(acl, said)


def _mend_no_primary(state: ShardState) -> Mend:
    replicas = [node.address for node in state.nodes if node.role == "replica"]
    if not replicas:
        return start_redis(state)
    return Mend(redis_cli(replicas[0], "CLUSTER", "FAILOVER", "TAKEOVER"), "or start its primary again")


def start_redis(state: ShardState) -> Mend:
    return by_hand(f"start redis-server on one of {', '.join(state.shard.nodes)}")


def _mend_down(node: NodeFacts | None) -> Mend:
    lines = [] if node is None else [line.split(" ") for line in node.cluster_nodes.splitlines()]
    failed = [_place(words) for words in lines if "master" in words[2] and "fail" in words[2] and words[8:]]
    if failed:
        return by_hand(f"start redis-server on {', '.join(failed)} again")
    if node is not None and len(slot_owners(node.cluster_nodes)[0]) == SLOTS:
        # A node that misses nothing waits by its clock, which was set back (redis/redis#6416).
        return by_hand(
            f"start redis-server on {node.address} again if that lasts: its clock was set back while it waited to join"
        )
    return by_hand(
        "see the findings about nodes, settings and slots: it needs most primaries, and an owner for every slot"
    )


def _place(words: Sequence[str]) -> str:
    """The address in a line of CLUSTER NODES: `ip:port@bus port`, with `,host name` since Redis 7."""
    ip, _, port = words[1].partition("@")[0].rpartition(":")
    return join_address(words[1].partition(",")[2] or ip, int(port))


def strangers(facts: Facts) -> Iterator[Finding]:
    """every Redis primary with slots is in the directory, and so is every replica of a shard"""
    known = shards_by_id(facts.survey.shards)
    silent = {state.shard.name for state in facts.survey.shards if state.primary is None}
    lines = [line.split(" ") for node in facts.nodes.values() for line in node.cluster_nodes.splitlines()]
    owners = {words[0]: words for words in lines if "master" in words[2] and words[8:]}
    for node_id, words in owners.items():
        if node_id in known or "fail" in words[2]:
            continue
        if silent.issuperset(_mapped(facts, words[8:])):
            continue  # it may be a node of a shard that does not answer
        address = _place(words)
        what = f"{address} owns slots {' '.join(words[8:12])} and belongs to no shard"
        said = "if it is a shard of this cluster; if not, take its slots back as the findings about slots say"
        mend = Mend(written_anew("--shard", f"NAME={address}"), said)
        yield Finding("strangers", "warning", what, mend)
    yield from _strange_replicas(facts, lines)


def _strange_replicas(facts: Facts, lines: Sequence[list[str]]) -> Iterator[Finding]:
    """Replicas of our primaries that the directory lacks, of shards whose own nodes all answer.

    Redis may elect one. Nobody would find the shard's primary then.
    """
    ours = {
        node.view.node_id: state
        for state in facts.survey.shards
        for node in state.nodes
        if node.view is not None
    }
    gone = ("fail", "noaddr", "handshake")
    replicas = {
        words[0]: words
        for words in lines
        if "slave" in words[2] and not any(flag in words[2] for flag in gone)
    }
    for node_id, words in replicas.items():
        state = ours.get(words[3])
        if node_id in ours or state is None or any(node.view is None for node in state.nodes):
            continue
        address = _place(words)
        member = next((node for node in state.nodes if node is not state.primary), state.nodes[0])
        what = f"{address} is a replica of shard {state.shard.name} and not in its list: Redis may elect it"
        said = "forgets it; but if a replace-node or an add-replica of it was interrupted, give that again"
        mend = Mend(wallet_admin("replace-node", address, member.address), said)
        yield Finding("strangers", "warning", what, mend)


def _mapped(facts: Facts, spans: Sequence[str]) -> set[str]:
    """The shards on which the map places these slots."""
    count = len(facts.map.partitions)
    found: set[str] = set()
    for span in spans:
        if not span.startswith("["):
            first, _, last = span.partition("-")
            ends = partition_of_slot(int(first), count), partition_of_slot(int(last or first), count)
            found.update(facts.map.shard_of(partition) for partition in range(ends[0], ends[1] + 1))
    return found


def slots(facts: Facts) -> Iterator[Finding]:
    """the slots of every partition are where the map says, for every node alike"""
    reported: set[tuple[int, str]] = set()
    count = len(facts.map.partitions)
    for node in facts.nodes.values():
        owners, half = slot_owners(node.cluster_nodes)
        for slot, word in half:
            if str(partition_of_slot(slot, count)) not in facts.moves:
                mend = Mend(redis_cli(node.address, "CLUSTER", "SETSLOT", slot, "STABLE"))
                yield Finding("slots", "warning", f"{node.address} has slot {slot} half moved ({word})", mend)
        for partition in range(count):
            misplaced = _misplaced(facts, partition, owners)
            if misplaced is not None and (partition, misplaced[0]) not in reported:
                reported.add((partition, misplaced[0]))
                yield _slots_elsewhere(facts, partition, *misplaced, node.address)


def _misplaced(
    facts: Facts, partition: int, owners: dict[int, str]
) -> tuple[str, list[int], NodeView] | None:
    """Slots of a partition that are not on its shard: their owner, the slots, and the node that should own them.

    None when all are right, or it is not known.
    """
    state = _shards(facts).get(facts.map.shard_of(partition))
    home = None if state is None or state.primary is None else state.primary.view
    if home is None or str(partition) in facts.moves:
        return None
    slots_of_it = slot_range(partition, len(facts.map.partitions))
    wrong = [slot for slot in slots_of_it if owners.get(slot) != home.node_id]
    if not wrong:
        return None
    owner = owners.get(wrong[0])
    shard = shards_by_id(facts.survey.shards).get(owner or "")
    where = "nobody" if owner is None else f"shard {shard}" if shard else f"node {owner}"
    return where, wrong, home


def _slots_elsewhere(
    facts: Facts, partition: int, where: str, wrong: list[int], home: NodeView, seen_by: str
) -> Finding:
    entry = facts.map.partitions[partition]
    live = wrong[0] == slot_range(partition, len(facts.map.partitions))[0]
    span = f"{wrong[0]}-{wrong[-1]}"
    what = f"slots {span} of partition {partition} belong to {where}, the map says {entry.shard}"
    held, epoch = _held(facts, partition)
    if live and epoch > entry.epoch:
        what += f": it is {held} there under epoch {epoch}, and the map at {entry.epoch} is an old one"
        return Finding("slots", "error", what, Mend(written_anew(), "Redis says where the partitions are"))
    mend = Mend(take_slots(home.address, home.node_id, wrong))
    return Finding("slots", "error" if live else "warning", f"{what} (as {seen_by} sees it)", mend)


def _held(facts: Facts, partition: int) -> tuple[str, int]:
    """State and epoch of the partition on the node that has it, if the map places it elsewhere."""
    held = [node.holds[partition] for node in facts.nodes.values() if partition in node.holds]
    return max(held, key=lambda one: one[1], default=("absent", 0))


def expiry(facts: Facts) -> Iterator[Finding]:
    """Redis forgets nothing of a partition by itself, neither a key nor a field"""
    for partition in facts.partitions.values():
        found: list[tuple[str, int, tuple[str, ...]]] = [
            (shown(name), left_ms, ("PERSIST", shown(name))) for name, left_ms in partition.expiring.items()
        ]
        found += [
            (
                f"{shown(field)} in {shown(name)}",
                left_ms,
                ("HPERSIST", shown(name), "FIELDS", "1", shown(field)),
            )
            for (name, field), left_ms in partition.expiring_fields.items()
        ]
        for thing, left_ms, command in found:
            address = _address(_shards(facts)[facts.map.shard_of(partition.partition)])
            what = f"{thing} of partition {partition.partition} will be deleted in {left_ms // 1000} s: "
            what += "it has a time to live"
            yield Finding("expiry", "error", what, Mend(redis_cli(address, *command), "at once"))


def keys(facts: Facts) -> Iterator[Finding]:
    """Redis holds only keys of the engine, each where the engine reads it"""
    for partition in facts.partitions.values():
        if partition.unknown_keys:
            shard = facts.map.shard_of(partition.partition)
            yield _foreign(_shards(facts)[shard], partition.unknown_keys)
    if facts.moves:  # a copy under way is in slots that the target does not own yet
        return
    for node in facts.nodes.values():
        state = _shards(facts)[node.shard]
        if node.strays.foreign and _address(state) == node.address:
            yield _foreign(state, node.strays.foreign)
        if left := node.strays.left:
            what = (
                f"{node.address} of shard {node.shard} holds {len(left)} keys of slots that it does not own"
            )
            what += f": {_named(left)}; nothing reaches them"
            yield Finding("keys", "warning", what, Mend(wallet_admin("clear-leftovers", node.shard)))


def _foreign(state: ShardState, names: Sequence[bytes]) -> Finding:
    what = f"{len(names)} keys on shard {state.shard.name} belong to no partition: {_named(names)}"
    mend = Mend(
        wallet_admin("clear-leftovers", state.shard.name, "--foreign"),
        "it names each and asks: the program that wrote them may need them",
    )
    return Finding("keys", "warning", what, mend)


def _named(names: Sequence[bytes]) -> str:
    return ", ".join(map(shown, names[:KEYS_NAMED_MAX])) + ("" if len(names) <= KEYS_NAMED_MAX else ", …")


def _shards(facts: Facts) -> dict[str, ShardState]:
    return {state.shard.name: state for state in facts.survey.shards}


def _address(state: ShardState) -> str:
    """The address of its primary; of its first node when no primary answers."""
    return state.shard.nodes[0] if state.primary is None else state.primary.address
