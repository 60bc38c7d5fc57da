"""Each check of `doctor`: the facts of a healthy cluster, with one fault at a time."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from wallet_engine.admin.diagnosis.certificates import Certificate
from wallet_engine.admin.diagnosis.examination import (
    Facts,
    NodeFacts,
    PartitionFacts,
    ServiceFacts,
    ZooKeeperServer,
)
from wallet_engine.admin.diagnosis.findings import CHECKS, find
from wallet_engine.admin.diagnosis.holds import OverdueHold
from wallet_engine.admin.diagnosis.probing import Probe, Probes
from wallet_engine.admin.diagnosis.strays import Strays
from wallet_engine.admin.nodes import NodeState
from wallet_engine.admin.sinks import SinkStatus
from wallet_engine.admin.survey import JournalState, PartitionStatus, ShardState, Survey
from wallet_engine.admin.tracing.open_entries import OpenEntry
from wallet_engine.admin.tracing.open_groups import OpenGroup
from wallet_engine.domain.groups import Record, Words
from wallet_engine.domain.principals import checked
from wallet_engine.engine.conditions import Condition
from wallet_engine.recovery.refused import refusal_told
from wallet_engine.redis_store.refusals import Obstacle
from wallet_engine.redis_store.topology import NodeView
from wallet_engine.routing.following import FollowerInfo
from wallet_engine.routing.model import (
    ClusterConfig,
    JournalInfo,
    PartitionEntry,
    PartitionMap,
    ServiceInfo,
    Shard,
    Trouble,
)

TOMORROW = datetime.now(UTC) + timedelta(days=1)
ONE, TWO, COPY, TWIN = "h1:1", "h2:2", "h3:3", "h7:7"
KNOWN = ("one master 0-8191", "two master 8192-16383", "copy slave")
SETTINGS = {
    "maxmemory-policy": "noeviction",
    "cluster-require-full-coverage": "no",
    "cluster-allow-replica-migration": "no",
}


def nodes_text(*lines: str) -> str:
    """The text of `CLUSTER NODES`, from lines "id role slots"; a role may be `slave:id of its primary`."""
    places = {"one": ONE, "two": TWO, "copy": COPY}
    words = (line.split(" ", 2) for line in lines)
    return "\n".join(
        f"{w[0]} {places.get(w[0], 'h9:9')}@1 {' '.join([*w[1].split(':'), '-'][:2])} 0 0 1 connected "
        f"{w[2] if len(w) > 2 else ''}".rstrip()
        for w in words
    )


def primary(address: str, node_id: str, slots: range) -> NodeState:
    return NodeState(address, "", NodeView(address, node_id, True, 1, (slots,)), True, None, True, 50, 100)


ORACLE = FollowerInfo("oracle", "oracle", "", 1, "h6", (Trouble("partition 1: entry 7: …", 1000),))
FOLLOWER = FollowerInfo("f", "history", "", 1, "h6")


def healthy() -> Facts:
    """Facts of two shards, each with a replica; two partitions, a journal copy, an API process."""
    one, two = primary(ONE, "one", range(8192)), primary(TWO, "two", range(8192, 16384))
    copy = NodeState(COPY, "", view(COPY, "copy", follows="one"), True, ONE, True, 50, 100)
    twin = NodeState(TWIN, "", view(TWIN, "twin", follows="two"), True, TWO, True, 50, 100)
    shards = (
        ShardState(Shard("s1", (ONE, COPY)), one, (one, copy)),
        ShardState(Shard("s2", (TWO, TWIN)), two, (two, twin)),
    )
    journal = JournalState(JournalInfo("j1", "h4:4", "/j", 1, "h4"), {0: 5, 1: 5}, 0, ())
    service = ServiceInfo("api", "h5:5", 1)
    statuses = tuple(PartitionStatus(p, f"s{p + 1}", 3, 5, "live", 3, 0) for p in (0, 1))
    return Facts(
        Survey(ClusterConfig(2), 0, shards, statuses, (journal,), (service,)),
        PartitionMap(0, (PartitionEntry("s1", 3), PartitionEntry("s2", 3))),
        (
            ZooKeeperServer("z1:1", "leader"),
            ZooKeeperServer("z2:1", "follower"),
            ZooKeeperServer("z3:1", "follower"),
        ),
        {
            address: NodeFacts(address, shard, SETTINGS, 0, nodes_text(*KNOWN), True)
            for address, shard in ((ONE, "s1"), (COPY, "s1"), (TWO, "s2"))
        },
        {p: PartitionFacts(p, node_id, 10, ()) for p, node_id in ((0, "one"), (1, "two"))},
        (),
        {},
        frozenset({"j1"}),
        {"api": ServiceFacts("", False)},
        {"j1": 0.5},
        Probes((Probe(0, None), Probe(1, None)), {}, 2),
    )


def surveyed(**changes: Any) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, survey=replace(facts.survey, **changes))


def node(address: str, **changes: Any) -> Callable[[Facts], Facts]:
    return lambda facts: replace(
        facts, nodes={**facts.nodes, address: replace(facts.nodes[address], **changes)}
    )


def every_view(*lines: str) -> Callable[[Facts], Facts]:
    """All nodes see the cluster like this."""
    text = nodes_text(*lines)
    return lambda facts: replace(
        facts, nodes={name: replace(one, cluster_nodes=text) for name, one in facts.nodes.items()}
    )


def state(address: str, /, **changes: Any) -> Callable[[Facts], Facts]:
    """Change the state of a node in the survey, also among the primaries if it is one."""

    def change(facts: Facts) -> Facts:
        shards = []
        for shard in facts.survey.shards:
            nodes = tuple(replace(n, **changes) if n.address == address else n for n in shard.nodes)
            first = nodes[0] if nodes[0].reachable else None
            shards.append(ShardState(shard.shard, first, nodes))
        return replace(facts, survey=replace(facts.survey, shards=tuple(shards)))

    return change


def bare(facts: Facts) -> Facts:
    """Without the replica of s2."""
    one, two = facts.survey.shards
    two = ShardState(Shard("s2", (TWO,)), two.primary, two.nodes[:1])
    return replace(facts, survey=replace(facts.survey, shards=(one, two)))


def status(**changes: Any) -> Callable[[Facts], Facts]:
    """Change the status of partition 1."""
    return lambda facts: surveyed(
        partitions=(facts.survey.partitions[0], replace(facts.survey.partitions[1], **changes))
    )(facts)


def journal(**changes: Any) -> Callable[[Facts], Facts]:
    return lambda facts: surveyed(journals=(replace(facts.survey.journals[0], **changes),))(facts)


def partition(**changes: Any) -> Callable[[Facts], Facts]:
    """Change the facts about partition 1 that are not in the survey."""
    return lambda facts: replace(
        facts, partitions={**facts.partitions, 1: replace(facts.partitions[1], **changes)}
    )


def refused(condition: Condition, detail: str, *partitions: int) -> Callable[[Facts], Facts]:
    """Test writes to these partitions were refused with a condition."""
    probes = tuple(Probe(p, condition, detail) if p in partitions else Probe(p, None) for p in (0, 1))
    return others(probes=Probes(probes, {}, 2 - len(partitions)))


def others(**changes: Any) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, **changes)


def group(age_ms: int | None, at_least_ms: int = 0) -> OpenGroup:
    record = Record("P", "alice", "5.0", Words("X1", 0, "-", ()))
    return OpenGroup(1, "22…", record, "b", age_ms, at_least_ms)


def setting(name: str, value: str) -> Callable[[Facts], Facts]:
    return node(TWO, settings={**SETTINGS, name: value})


def view(address: str, node_id: str, *, follows: str = "", slots: tuple[range, ...] = ()) -> NodeView:
    """The view of a node: a replica if `follows` is given, else a primary."""
    return NodeView(address, node_id, not follows, 0, slots, primary_id=follows)


def servers(*modes: str) -> Callable[[Facts], Facts]:
    return others(zookeeper=tuple(ZooKeeperServer(f"z{i}:1", mode) for i, mode in enumerate(modes, 1)))


GONE_MAP = PartitionMap(0, (PartitionEntry("s1", 3), PartitionEntry("s9", 3)))
TAKE = "(echo CLUSTER BUMPEPOCH; for slot in $(seq 0 4); do echo CLUSTER SETSLOT $slot NODE one; done) | "

#: Name of the fault, the change that makes it, then the finding: (check, severity, text, command).
CASES: list[tuple[str, Callable[[Facts], Facts], tuple[str, str, str, str]]] = [
    (
        "both copies on one host",
        lambda facts: surveyed(
            config=replace(facts.survey.config, journal_quorum=2),
            journals=tuple(
                JournalState(JournalInfo(name, f"h4:{name[1]}", "/j", 1, "h4"), {0: 5, 1: 5}, 0, ())
                for name in ("j1", "j2")
            ),
        )(replace(facts, copies=frozenset({"j1", "j2"}), disk_free={"j1": 0.5, "j2": 0.5})),
        ("layout", "warning", "h4 has 2 of 2 journal copies, and an answer needs 2", "--replaces"),
    ),
    (
        "most primaries on one host",
        state(TWO, address="h1:2"),
        ("layout", "warning", "h1 has 2 of 2 primaries", "wallet-admin rebalance --primaries"),
    ),
    (
        "a primary beside its only replica",
        state(COPY, address="h1:3"),
        ("layout", "warning", "the primary of s1 and all its replicas are on h1", "start a replica of s1"),
    ),
    (
        "a shard without a replica",
        bare,
        ("layout", "warning", "s2 has no replica: while its primary is away", "with add-replica"),
    ),
    (
        "a text that nobody can read",
        others(damaged=("/wallet/services/x does not hold a ServiceInfo: …",)),
        ("directory", "error", "/wallet/services/x does not hold a ServiceInfo", "from a backup"),
    ),
    (
        "a partition that no copy can recover",
        lambda facts: status(state="recovering")(
            journal(
                info=JournalInfo(
                    *("j1", "h4:4", "/j", 1, "h4"),
                    troubles=(Trouble(refusal_told(1, "entries 3 to 5 …"), 0),),
                )
            )(facts)
        ),
        (
            *("partitions", "error"),
            "takes no transfers: j1 says partition 1 is not recovered: entries 3 to 5 …",
            "see the log of wallet-engine journal on h4",
        ),
    ),
    (
        "a partition that one copy cannot recover",
        journal(
            info=JournalInfo(
                *("j1", "h4:4", "/j", 1, "h4"), troubles=(Trouble(refusal_told(1, "entries 3 to 5 …"), 0),)
            )
        ),
        ("partitions", "warning", "is live, but j1 says partition 1 is not recovered", "see the log"),
    ),
    (
        "no copy that archives",
        surveyed(journals=()),
        ("archive", "note", "not checked: no journal copy runs", "see journal"),
    ),
    (
        "a copy that does not answer archives perhaps",
        journal(durable=None),
        ("archive", "note", "not checked: what journal copy j1, which does not answer, does", "see journal"),
    ),
    (
        "archive fails",
        journal(info=JournalInfo("j1", "h4:4", "/j", 1, "h4", troubles=(Trouble("5.wal: status 1", 0),))),
        ("archive", "warning", "copy j1, since 1970-01-01T00:00:00", "log of wallet-engine journal on h4"),
    ),
    (
        "a disk that fills",
        journal(
            info=JournalInfo(
                "j1", "h4:4", "/j", 1, "h4", troubles=(Trouble("disk: 9.0 GB are free, which last 9.0 h", 0),)
            )
        ),
        ("archive", "warning", "9.0 GB are free, which last 9.0 h", "journal prune --keep 7d --dry-run"),
    ),
    (
        "one of three servers",
        servers("", "leader", "follower"),
        ("zookeeper", "error", "z1:1 does not serve; 2 of 3", "on z1"),
    ),
    (
        "one of five servers",
        servers("", *["follower"] * 4),
        ("zookeeper", "warning", "4 of 5 do", "start ZooKeeper on"),
    ),
    (
        "map without shard",
        others(map=GONE_MAP),
        ("map", "error", "on shard s9, which the tree does not", "wallet-admin restore"),
    ),
    (
        "no primary",
        lambda facts: state(TWO, trouble="away")(bare(facts)),
        ("nodes", "error", "shard s2 has no primary", "start redis-server"),
    ),
    *(
        (
            f"no primary lets us in: {obstacle.name}",
            state(TWO, trouble=f"{obstacle} (why)", obstacle=obstacle),
            ("nodes", "error", f"no primary that answers; Redis at {TWO} {obstacle} (why)", mend),
        )
        for obstacle, mend in (
            (Obstacle.TLS, "compare --redis-ca"),
            (Obstacle.NO_COMMAND, "see rename-command in its redis.conf"),
            (Obstacle.NOT_ALLOWED, "wallet-admin redis acl --node h2:2 --apply"),
        )
    ),
    (
        "a replica that does not let us in",
        state(COPY, trouble="asks", obstacle=Obstacle.NO_PASSWORD, view=None),
        ("nodes", "warning", f"{COPY} of shard s1 asks", "wallet-admin redis acl --node h3:3 --apply"),
    ),
    (
        "no CONFIG",
        node(TWO, settings={"maxmemory-policy": "noeviction"}, unchecked="has none"),
        (
            "settings",
            "note",
            f"not checked: cluster-require-full-coverage, cluster-allow-replica-migration of {TWO}, which has none",
            "where that Redis is configured",
        ),
    ),
    (
        "a node that may not be examined",
        others(refused={TWO: "does not let"}),
        ("settings", "warning", f"scripts and keys of {TWO}, which does not let", "--redis-user"),
    ),
    (
        "no primary, and a replica",
        lambda facts: surveyed(
            shards=(replace(facts.survey.shards[0], primary=None), facts.survey.shards[1])
        )(facts),
        ("nodes", "error", "shard s1 has no primary", "redis-cli -h h3 -p 3 CLUSTER FAILOVER TAKEOVER"),
    ),
    (
        "cluster down, and nothing is missing",
        state(TWO, cluster_ok=False),
        (
            "nodes",
            "error",
            f"{TWO} says that",
            f"start redis-server on {TWO} again if that lasts: its clock was set back",
        ),
    ),
    (
        "cluster down",
        lambda facts: node(TWO, cluster_nodes=nodes_text(*KNOWN[:1], "two master 8192-16000"))(
            state(TWO, cluster_ok=False)(facts)
        ),
        ("nodes", "error", f"{TWO} says that", "see the findings about nodes, settings and slots"),
    ),
    (
        "cluster down, and why",
        lambda facts: node(TWO, cluster_nodes=nodes_text("one master,fail 0-8191", *KNOWN[1:]))(
            state(TWO, cluster_ok=False)(facts)
        ),
        ("nodes", "error", f"{TWO} says that", "start redis-server on h1:1 again"),
    ),
    (
        "dead replica",
        state(COPY, trouble="away", view=None),
        ("nodes", "warning", f"{COPY} of shard s1 does not", "wallet-admin replace-node"),
    ),
    (
        "link down",
        state(COPY, link_up=False),
        ("nodes", "warning", f"has no link to {ONE}", "-h h3 -p 3 INFO replication"),
    ),
    (
        "follows another",
        state(COPY, follows=TWO, view=view(COPY, "copy", follows="two")),
        ("nodes", "warning", f"follows {TWO}", "CLUSTER REPLICATE one"),
    ),
    (
        "two primaries",
        state(COPY, view=view(COPY, "copy")),
        ("nodes", "warning", "is a primary beside", f"wallet-admin replace-node {COPY} {COPY}"),
    ),
    (
        "two primaries with keys",
        state(COPY, view=view(COPY, "copy"), keys=3),
        ("nodes", "warning", "is a primary beside", "start it again with an empty --dir: then"),
    ),
    (
        "two primaries with slots",
        state(COPY, view=view(COPY, "copy", slots=(range(2),))),
        ("nodes", "warning", "is a primary beside", "see the findings about slots"),
    ),
    (
        "stranger",
        every_view("one master 0-4 6-8191", *KNOWN[1:], "new master 5"),
        ("strangers", "warning", "h9:9 owns slots 5", "restore NOW.json --replace --shard NAME=h9:9"),
    ),
    (
        "replica of nobody",
        every_view(*KNOWN, "new slave:one"),
        (
            "strangers",
            "warning",
            "h9:9 is a replica of shard s1 and not in its list",
            f"wallet-admin replace-node h9:9 {COPY}",
        ),
    ),
    (
        "eviction",
        setting("maxmemory-policy", "allkeys-lru"),
        ("settings", "error", "may evict balances", "CONFIG SET maxmemory-policy noeviction"),
    ),
    (
        "coverage",
        setting("cluster-require-full-coverage", "yes"),
        ("settings", "warning", "stops every shard", "cluster-require-full-coverage no"),
    ),
    (
        "migration",
        setting("cluster-allow-replica-migration", "yes"),
        ("settings", "warning", "leave its shard", "replica-migration no"),
    ),
    (
        "memory",
        state(TWO, used_memory_bytes=71),
        (
            "memory",
            "warning",
            "71% of its maxmemory",
            "CONFIG SET maxmemory 200  # or: wallet-admin rebalance",
        ),
    ),
    (
        "much memory",
        state(TWO, used_memory_bytes=86),
        ("memory", "error", "86% of its maxmemory", "wallet-admin rebalance"),
    ),
    (
        "no limit",
        state(TWO, maxmemory_bytes=0),
        ("memory", "note", "has no maxmemory", "CONFIG SET maxmemory"),
    ),
    (
        "clock ahead",
        node(TWO, clock_ahead_ms=1100),
        ("clocks", "warning", "1.1 s ahead of this", "set the clock of h2"),
    ),
    (
        "clock behind",
        node(TWO, clock_ahead_ms=-60001),
        ("clocks", "error", "60.0 s behind this", "clock of h2, or the one here"),
    ),
    (
        "a service's clock",
        others(services={"api": ServiceFacts("", False, -600_000)}),
        (
            "clocks",
            "error",
            "API process api is 600.0 s behind this machine's",
            "clock of h5, or the one here",
        ),
    ),
    (
        "dated ahead",
        partition(recorded_ahead_ms=360_000),
        (
            "clocks",
            "warning",
            "1 partitions of shard s2 are dated up to 360.0 s ahead",
            "wait: dates do not affect",
        ),
    ),
    (
        "half moved",
        node(TWO, cluster_nodes=nodes_text(*KNOWN[:1], "two master 8192-16383 [9000->-one]")),
        ("slots", "warning", "slot 9000 half moved (migrating)", "-h h2 -p 2 CLUSTER SETSLOT 9000 STABLE"),
    ),
    (
        "live slot elsewhere",
        every_view("one master 5-8191", "two master 0-4 8192-16383"),
        (
            "slots",
            "error",
            "slots 0-4 of partition 0 belong to shard s2, the map says s1",
            TAKE + "redis-cli -h h1 -p 1",
        ),
    ),
    (
        "other slot elsewhere",
        every_view("one master 0-8190", "two master 8191-16383"),
        ("slots", "warning", "slots 8191-8191 of", "$(seq 8191 8191)"),
    ),
    (
        "slots of a stranger",
        every_view("one master 0-99 102-8191", "two master 8192-16383", "who master 100 101"),
        ("slots", "warning", "belong to node who", "$(seq 100 101)"),
    ),
    (
        "slots of nobody",
        every_view("one master 1-8191", "two master 8192-16383"),
        (
            "slots",
            "error",
            "belong to nobody",
            "(echo CLUSTER BUMPEPOCH; for slot in $(seq 0 0); do",
        ),
    ),
    (
        "scripts",
        node(TWO, scripts_loaded=False),
        ("scripts", "error", f"{TWO} lacks the engine's scripts", "wallet-admin doctor  # again: this run"),
    ),
    (
        "recovering",
        status(state="recovering"),
        ("partitions", "error", "is recovering and takes no", "the log of wallet-engine journal on h4"),
    ),
    (
        "stopped",
        lambda facts: status(state="stopped")(partition(fault="entry 7: operation 0")(facts)),
        (
            "partitions",
            "error",
            "partition 1 on s2 is stopped: its journal does not",
            "wallet-admin rebuild 1",
        ),
    ),
    (
        "frozen by nobody",
        status(state="moving"),
        ("partitions", "error", "a move that does not exist", "it recovers by itself"),
    ),
    (
        "old map",
        status(redis_epoch=4),
        (
            "partitions",
            "error",
            "at epoch 4, the map at 3: the map is an old one",
            "restore NOW.json --replace",
        ),
    ),
    (
        "old meta",
        status(redis_epoch=2),
        ("partitions", "error", "is at epoch 2, the map at 3", "it recovers by itself"),
    ),
    (
        "other owner",
        partition(owner="one"),
        ("partitions", "error", "certified for node one", "it recovers by itself"),
    ),
    (
        "unknown key",
        partition(unknown_keys=(b"intruder",)),
        (
            "keys",
            "warning",
            "1 keys on shard s2 belong",
            "wallet-admin clear-leftovers s2 --foreign",
        ),
    ),
    (
        "time to live",
        partition(expiring={b"balance:USD{0}": 61_000}),
        (
            "expiry",
            "error",
            "balance:USD{0} of partition 1 will be deleted in 61 s",
            "PERSIST 'balance:USD{0}'",
        ),
    ),
    (
        "time to live of a field",
        partition(expiring_fields={(b"balance:USD{0}", b"alice"): 61_000}),
        (
            "expiry",
            "error",
            "alice in balance:USD{0} of partition 1 will be deleted in 61 s",
            "HPERSIST 'balance:USD{0}' FIELDS 1 alice",
        ),
    ),
    (
        "stray keys",
        node(TWO, strays=Strays((b"x", b"\xff\n", b"y", b"z"))),
        ("keys", "warning", "4 keys on shard s2 belong to no partition: x, \\xff\\n, y, …", "s2 --foreign"),
    ),
    (
        "stray keys of a replica",
        node(COPY, strays=Strays(left=(b"meta{9}", b"x"))),
        ("keys", "warning", f"{COPY} of shard s1 holds 2 keys of slots", "wallet-admin clear-leftovers s1"),
    ),
    (
        "live slot elsewhere by a newer map",
        lambda facts: node(TWO, holds={0: ("live", 4)})(
            every_view("one master 5-8191", "two master 0-4 8192-16383")(facts)
        ),
        (
            "slots",
            "error",
            "it is live there under epoch 4, and the map at 3 is an old one",
            "restore NOW.json",
        ),
    ),
    (
        "silent journal",
        journal(durable=None),
        ("journal", "error", "0 journal copies answer and 1 must", "start wallet-engine journal"),
    ),
    (
        "copy without a process",
        others(copies=frozenset({"j1", "j2"})),
        ("journal", "warning", "journal copy j2 does not answer", "--journal-id j2"),
    ),
    (
        "copy whose place another can take",
        lambda facts: surveyed(config=replace(facts.survey.config, journal_quorum=2))(
            others(copies=frozenset({"j1", "j2"}))(facts)
        ),
        ("journal", "warning", "journal copy j2 does not answer", "--journal-id NEW --directory EMPTY"),
    ),
    (
        "copy that does not count",
        others(copies=frozenset({"j2", "j3"})),
        (
            "journal",
            "warning",
            "journal copy j1 runs and does not count",
            "wait until the log of wallet-engine",
        ),
    ),
    (
        "only a copy that does not count",
        others(copies=frozenset({"j2", "j3"})),
        ("journal", "error", "0 journal copies answer and 1 must", "start wallet-engine journal"),
    ),
    (
        "lag",
        journal(lag_entries=1001),
        ("journal", "warning", "1,001 entries behind", "see the load of the disk on h4"),
    ),
    ("disk", others(disk_free={"j1": 0.19}), ("journal", "warning", "has 19% free", "give it more room")),
    ("full disk", others(disk_free={"j1": 0.04}), ("journal", "error", "has 4% free", "stops every payment")),
    (
        "stream",
        partition(stream_entries=10_001),
        (
            "journal",
            "warning",
            "10,001 entries wait for the journal; at 100,000",
            "wallet-admin journal info",
        ),
    ),
    (
        "stream half full",
        partition(stream_entries=50_001),
        ("journal", "error", "50,001 entries wait", "wallet-admin journal info"),
    ),
    (
        "full stream",
        partition(stream_entries=100_000),
        ("journal", "error", "partition 1 is FULL and takes no new work", "wallet-admin journal info"),
    ),
    (
        "full stream of a cluster with another limit",
        lambda facts: partition(stream_entries=256)(
            surveyed(config=ClusterConfig(2, stream_entries_max=256))(facts)
        ),
        ("journal", "error", "256 entries wait for the journal, and 256 may", "wallet-admin journal info"),
    ),
    (
        "open",
        others(open_entries=(OpenEntry(1, 5, 60_001, ()),)),
        ("open entries", "warning", "1 entries are open for up to 60 s", "pending --older-than 60"),
    ),
    (
        "open for long",
        others(open_entries=(OpenEntry(1, 5, 600_001, ()),)),
        ("open entries", "error", "up to 600 s; the oldest waits for its settle", "pending"),
    ),
    (
        "an expired hold whose rest does not fit",
        partition(overdue_holds=(OverdueHold("ann", "22…", True), OverdueHold("bob", "33…", False))),
        (
            "holds",
            "warning",
            "1 expired holds cannot be released, such as 33… of bob",
            "pay some of what is available",
        ),
    ),
    (
        "an expired hold that nobody releases",
        partition(overdue_holds=(OverdueHold("ann", "22…", True), OverdueHold("bob", "33…", False))),
        (
            "holds",
            "warning",
            "1 holds expired over a minute ago and are not released, such as 22… of ann",
            "see",
        ),
    ),
    (
        "the oracle has found something",
        others(followers={"oracle": [ORACLE]}),
        ("followers", "error", "oracle on h6, since", "see the log of wallet-engine follow on h6"),
    ),
    (
        "nobody decides again",
        others(followers={"oracle": [], "history": [FollowerInfo("f", "history", "", 1, "h6")]}),
        (
            "followers",
            "warning",
            "nobody follows the journal for oracle: an entry",
            "follow --to oracle:DIR ",
        ),
    ),
    *(
        (
            f"nobody follows for {sink}",
            others(followers={"oracle": [replace(ORACLE, troubles=())], sink: []}),
            (
                "followers",
                "warning",
                f"nobody follows the journal for {sink}",
                f"follow --to {target}  # with",
            ),
        )
        for sink, target in (
            ("history", "history"),
            ("kafka-paid", "kafka://HOST:PORT/paid"),
            ("parquet-lake", "parquet:DIR"),
        )
    ),
    (
        "a sink is far behind",
        surveyed(sinks=(SinkStatus("history", {"f": (0, 1)}, (FOLLOWER,), (), 200_001),)),
        ("followers", "warning", "history is 200,001 entries behind", "start another wallet-engine follow"),
    ),
    (
        "partitions that nobody has taken over",
        surveyed(sinks=(SinkStatus("history", {"f": (0,)}, (FOLLOWER,), (1,), 0),)),
        ("followers", "warning", "nobody has partitions 1 of history", "look again in 10 s"),
    ),
    (
        "open and not in the stream",
        others(open_entries=(OpenEntry(1, 5, None, (), in_stream=False),)),
        ("open entries", "error", "open entry 5 of partition 1 is not in", "wallet-admin rebuild 1"),
    ),
    (
        "open and cannot be read",
        others(open_entries=(OpenEntry(1, 5, None, (), unreadable="not a journal entry: b'x'"),)),
        (
            "open entries",
            "error",
            "open entry 5 of partition 1 cannot be read (not a j",
            "wallet-admin rebuild 1",
        ),
    ),
    (
        "open since nobody knows when",
        others(open_entries=(OpenEntry(1, 5, None, ()),)),
        ("open entries", "warning", "1 open entries are of unknown age", "wallet-admin pending  # twice"),
    ),
    (
        "a group since a minute",
        others(open_groups=(group(None, 59_000), group(60_001))),
        (
            "open entries",
            "warning",
            "1 parts of groups are open for up to 60 s; the oldest",
            "pending --older-than 60",
        ),
    ),
    (
        "a group for long, whose entry has left the stream",
        others(open_groups=(group(70_000), group(None, 600_001))),
        (
            "open entries",
            "error",
            "2 parts of groups are open for up to 600 s; the oldest waits for b",
            "pending",
        ),
    ),
    (
        "a group since nobody knows when",
        others(open_groups=(group(None, 59_000),)),
        (
            "open entries",
            "warning",
            "1 parts of groups are open since an unknown time; one waits for b",
            "wallet-admin pending  # twice",
        ),
    ),
    (
        "a group that cannot be read",
        others(open_groups=(OpenGroup(1, "44…", None, "an operator", None),)),
        ("open entries", "error", "group 44… in partition 1 cannot be read", "wallet-admin rebuild 1"),
    ),
    (
        "half a move",
        others(moves={"1": b'{"state": "copying"}'}),
        (
            "moves",
            "warning",
            'partition 1 is not finished: {"state": "copying"}',
            "wallet-admin resume 1  # or: wallet-admin abort 1",
        ),
    ),
    ("no service", surveyed(services=()), ("services", "critical", "nobody can pay", "wallet-engine serve")),
    (
        "half a service",
        others(services={"api": ServiceFacts("1 of 2 partitions", False)}),
        ("services", "warning", "api at h5:5 is not ready: 1 of 2", "curl -s http://h5:5/readyz"),
    ),
    (
        "the only service is unready",
        others(services={"api": ServiceFacts("no journal", True)}),
        ("services", "critical", "api at h5:5 is not ready: no journal", "curl -s http://h5:5/readyz"),
    ),
    (
        "an unready service with HTTPS",
        lambda facts: others(services={"api": ServiceFacts("no journal", True)})(
            surveyed(services=tuple(replace(info, tls=True) for info in facts.survey.services))(facts)
        ),
        ("services", "critical", "api at h5:5 is not ready: no journal", "curl -s -k https://h5:5/readyz"),
    ),
    (
        "one partition cannot be paid",
        refused(Condition.FULL, "its stream holds 9 entries", 1),
        (
            "payments",
            "error",
            "partition 1 on s2 cannot be paid: full: its stream",
            "wallet-admin journal info",
        ),
    ),
    (
        "a partition of a shard that nobody described cannot be paid",
        lambda facts: refused(Condition.UNREACHABLE, "why", 1)(
            replace(facts, map=PartitionMap(0, (PartitionEntry("s1", 3), PartitionEntry("s9", 3))))
        ),
        (
            "payments",
            "error",
            "partition 1 on s9 cannot be paid: unreachable",
            "see the finding about the map",
        ),
    ),
    (
        "nothing can be paid",
        refused(Condition.NO_RECEIPT, "0 of 1 journal copies; not: j1", 0, 1),
        ("payments", "critical", "nothing can be paid: no partition took a test write (no_receipt)", "below"),
    ),
    (
        "nothing can be paid, and why",
        refused(Condition.NO_RECEIPT, "0 of 1 journal copies; not: j1", 0, 1),
        ("payments", "error", "partition 0 on s1 cannot be paid: no_receipt: 0 of 1", "journal on h4"),
    ),
    (
        "a copy that answers and does not confirm",
        others(probes=Probes((Probe(0, None), Probe(1, None)), {"j1": 2}, 2)),
        (
            "payments",
            "warning",
            "j1 answers, but did not confirm 2 of 2 test writes",
            "log of wallet-engine",
        ),
    ),
    *(
        (
            f"refused: {condition.value}",
            refused(condition, "why", 0),
            ("payments", "error", f"partition 0 on s1 cannot be paid: {condition.value}: why", mend),
        )
        for condition, mend in (
            (Condition.UNREACHABLE, "start redis-server on one of h1:1, h3:3"),
            (Condition.REFUSED, "redis-cli -h h1 -p 1 INFO persistence"),
            (Condition.MEMORY, "redis-cli -h h1 -p 1 CONFIG SET maxmemory"),
            (Condition.SKEWED, "set the clock of h1, or the one here"),
            (Condition.MOVING, "wallet-admin moves"),
            (Condition.FENCED, "log of wallet-engine journal on h4"),
            (Condition.RECOVERING, "log of wallet-engine journal on h4"),
        )
    ),
    (
        "an open API",
        lambda facts: surveyed(services=(replace(facts.survey.services[0], insecure=True),))(facts),
        ("access", "warning", "API process api runs with --insecure", "wallet-admin key create NAME"),
    ),
    (
        "an open journal",
        lambda facts: journal(info=replace(facts.survey.journals[0].info, insecure=True))(facts),
        (
            "access",
            "warning",
            "runs with --insecure: anyone who reaches it is let in",
            "ca issue journal j1 --ca DIR",
        ),
    ),
    (
        "a certificate that ends",
        others(certificates=(Certificate("journal copy j1", checked("journal", "j1"), TOMORROW),)),
        ("certificates", "warning", "the certificate of journal/j1 (journal copy j1) ends", "--renew"),
    ),
    (
        "a file that ends and says of nobody whose it is",
        others(certificates=(Certificate("/etc/ca.pem", None, TOMORROW),)),
        ("certificates", "warning", "the certificate of /etc/ca.pem ends", "renew it where it was made"),
    ),
    (
        "a caller's certificate that ends",
        lambda facts: journal(
            info=replace(
                facts.survey.journals[0].info,
                troubles=(Trouble("certificates of callers end: service/api-1 on 2026-12-01", 1000),),
            )
        )(facts),
        ("certificates", "warning", "service/api-1 on 2026-12-01", "ca issue … --renew"),
    ),
]


def test_a_healthy_cluster_has_no_finding() -> None:
    assert find(healthy()) == []


@pytest.mark.parametrize(("fault", "found"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_fault_is_found_with_its_command(
    fault: Callable[[Facts], Facts], found: tuple[str, str, str, str]
) -> None:
    check, severity, said, mend = found
    facts = fault(healthy())
    mine = [one for one in find(facts) if one.check == check]
    assert any(one.severity == severity and said in one.what and mend in str(one.mend) for one in mine), mine


def test_nodes_are_told_apart_by_id_whatever_redis_calls_them() -> None:
    """The directory has host names and Redis has IP addresses, of the same nodes."""
    text = nodes_text(*KNOWN)
    for place in (ONE, TWO, COPY):
        text = text.replace(f" {place}@", f" 10.0.0.{place[-1]}:6379@")
    facts = state(COPY, follows="10.0.0.1:6379")(healthy())
    named = {address: replace(one, cluster_nodes=text) for address, one in facts.nodes.items()}
    assert find(replace(facts, nodes=named)) == []


def test_a_primary_that_does_not_answer_here_is_no_stranger() -> None:
    """Its id is not known. It owns the slots of a shard that does not answer, so it counts as that shard's primary."""
    facts = state(TWO, trouble="away", view=None)(healthy())
    without = {address: one for address, one in facts.nodes.items() if address != TWO}
    found = {one.check for one in find(replace(facts, nodes=without))}
    assert "nodes" in found
    assert "strangers" not in found


@pytest.mark.parametrize("silent", [ONE, COPY])
def test_a_replica_is_no_stranger_while_a_node_of_its_shard_does_not_answer(silent: str) -> None:
    facts = state(silent, trouble="is silent", view=None)(every_view(*KNOWN, "new slave:one")(healthy()))
    assert not [one for one in find(facts) if one.check == "strangers"]


@pytest.mark.parametrize("flag", ["fail", "noaddr", "handshake"])
def test_a_replica_that_is_not_there_is_no_stranger(flag: str) -> None:
    assert find(every_view(*KNOWN, f"new slave,{flag}:one")(healthy())) == []


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(journal(lag_entries=1000), id="lag"),
        pytest.param(others(disk_free={"j1": 0.2}), id="disk"),
        pytest.param(partition(stream_entries=10_000), id="stream"),
        pytest.param(node(TWO, clock_ahead_ms=-1000), id="clock"),
        pytest.param(state(TWO, used_memory_bytes=70), id="memory"),
        pytest.param(others(open_entries=(OpenEntry(1, 5, 60_000, ()),)), id="open"),
        pytest.param(others(open_groups=(group(60_000),)), id="a group"),
        pytest.param(
            setting("cluster-allow-replica-migration", ""), id="a setting that Redis 6 does not know"
        ),
        pytest.param(status(state="unreachable", redis_epoch=None), id="said by another check"),
    ],
)
def test_what_is_within_bounds_is_no_finding(fault: Callable[[Facts], Facts]) -> None:
    assert find(fault(healthy())) == []


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(status(state="moving"), id="frozen"),
        pytest.param(every_view("one master 0-8191 8192", "two master 8193-16383"), id="its slot"),
        pytest.param(node(TWO, strays=Strays(left=(b"x",))), id="its copy"),
    ],
)
def test_what_a_move_does_is_no_fault(fault: Callable[[Facts], Facts]) -> None:
    """`doctor` says only that a move is in progress."""
    moving = replace(fault(healthy()), moves={"1": b"{}"})
    assert {one.check for one in find(moving)} == {"moves"}


def test_every_check_has_a_case() -> None:
    assert {found[0] for _, _, found in CASES} == CHECKS.keys()


@pytest.mark.parametrize(
    ("copies", "quorum", "answering", "replaceable"),
    [(2, 1, 1, False), (2, 2, 1, True), (3, 2, 2, True), (3, 2, 1, False), (3, 1, 2, False)],
)
def test_a_copy_is_replaced_only_where_the_others_have_all_that_was_answered(
    copies: int, quorum: int, answering: int, replaceable: bool
) -> None:
    """Fewer than copies - quorum + 1 copies may lack an entry, and then the new copy would wait for ever."""
    names = [f"j{number}" for number in range(1, copies + 1)]
    seen = healthy()
    one = seen.survey.journals[0]
    states = tuple(
        replace(one, info=replace(one.info, journal_id=name, address=f"{name}:4"))
        for name in names[:answering]
    )
    config = replace(seen.survey.config, journal_quorum=quorum)
    survey = replace(seen.survey, journals=states, config=config)
    facts = replace(seen, survey=survey, copies=frozenset(names), disk_free=dict.fromkeys(names, 0.5))
    said = [f for f in find(facts) if "does not answer" in f.what and names[-1] in f.what]
    assert ["--replaces" in str(f.mend) for f in said] == [replaceable]
