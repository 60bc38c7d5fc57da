"""What is wrong with a cluster, from the facts that `examine` gathered: one plain function for each thing to check.

Every finding says what is, and the exact command that mends it.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from shlex import quote
from typing import Final

from wallet_engine.admin.examination import Facts
from wallet_engine.admin.finding import Finding
from wallet_engine.admin.finding import redis_cli as _cli
from wallet_engine.admin.history import time_text
from wallet_engine.admin.nodes import memory_text
from wallet_engine.admin.payments import payments
from wallet_engine.admin.survey import ShardState
from wallet_engine.domain.addresses import split_address
from wallet_engine.routing.slots import slot_range

#: Part of a limit from which there is a warning, and from which it is an error.
MEMORY_PART_WARN: Final = 0.70
MEMORY_PART_MAX: Final = 0.85
STREAM_PART_WARN: Final = 0.10
STREAM_PART_MAX: Final = 0.50
DISK_FREE_PART_WARN: Final = 0.20
DISK_FREE_PART_MIN: Final = 0.05
#: Clocks stamp every entry; nothing else goes by them.
CLOCK_MS_WARN: Final = 1_000
CLOCK_MS_MAX: Final = 60_000
LAG_ENTRIES_WARN: Final = 1_000
#: A minute is many times what the sweeper takes to end an interrupted transfer.
OPEN_AGE_MS_WARN: Final = 60_000
OPEN_AGE_MS_MAX: Final = 600_000


def _zookeeper(facts: Facts) -> Iterator[Finding]:
    """every server of the ensemble serves"""
    down = [server.address for server in facts.zookeeper if not server.mode]
    left = len(facts.zookeeper) - len(down)
    for address in down:
        bad = "error" if left <= len(facts.zookeeper) // 2 + 1 else "warning"
        what = f"ZooKeeper at {address} does not serve; {left} of {len(facts.zookeeper)} do"
        yield Finding("zookeeper", bad, what, f"start it on {split_address(address)[0]}: zkServer.sh start")


def _nodes(facts: Facts) -> Iterator[Finding]:
    """every Redis node answers, each shard has its primary, replicas follow it"""
    for state in facts.survey.shards:
        name = state.shard.name
        if state.primary is None:
            mend = (
                f"start redis-server on one of {', '.join(state.shard.nodes)}; if a replica is left: "
                + _cli(state.shard.nodes[-1], "CLUSTER FAILOVER TAKEOVER")
            )
            yield Finding("nodes", "error", f"shard {name} has no primary that answers", mend)
            continue
        if not state.primary.cluster_ok:
            mend = _cli(state.primary.address, "CLUSTER INFO")
            yield Finding(
                "nodes", "error", f"{state.primary.address} says that the Redis cluster is down", mend
            )
        for node in state.nodes:
            if not node.reachable:
                mend = f"start redis-server on {node.address} again, or wallet-admin replace-node {node.address} NEW"
                yield Finding("nodes", "warning", f"{node.address} of shard {name} does not answer", mend)
            elif node.role == "replica" and (not node.link_up or node.follows != state.primary.address):
                what = f"replica {node.address} of shard {name} follows {node.follows}"
                what += "" if node.link_up else ", and the link is down"
                assert state.primary.view is not None  # a primary has one
                mend = _cli(node.address, f"CLUSTER REPLICATE {state.primary.view.node_id}")
                yield Finding("nodes", "warning", what, mend)
            elif node.role == "primary" and node is not state.primary:
                what = f"{node.address} of shard {name} is a primary beside {state.primary.address}"
                assert state.primary.view is not None
                mend = _cli(node.address, f"CLUSTER REPLICATE {state.primary.view.node_id}")
                yield Finding("nodes", "warning", what, mend)


def _strangers(facts: Facts) -> Iterator[Finding]:
    """Redis knows no primary with slots that the directory does not"""
    known = {address for state in facts.survey.shards for address in state.shard.nodes}
    seen: dict[str, tuple[str, str]] = {}
    for node in facts.nodes.values():
        for line in node.cluster_nodes.splitlines():
            words = line.split(" ")
            address = words[1].partition("@")[0].partition(",")[0]
            if "myself" in words[2]:
                continue  # asked because the directory knows it; one that has met nobody does not know its host
            if "master" in words[2] and "fail" not in words[2] and len(words) > 8 and address not in known:
                seen[address] = (words[0], " ".join(words[8:12]))
    for address, (_, slots) in sorted(seen.items()):
        what = f"{address} owns slots {slots} and belongs to no shard"
        yield Finding("strangers", "warning", what, f"wallet-admin add-shard NAME {address}")


def _settings(facts: Facts) -> Iterator[Finding]:
    """Redis evicts nothing, and one dead shard stops no other"""
    wanted = {
        "maxmemory-policy": ("noeviction", "error", "may evict balances"),
        "cluster-require-full-coverage": ("no", "warning", "stops every shard when one is down"),
        "cluster-allow-replica-migration": ("no", "warning", "lets a replica leave its shard by itself"),
    }
    for node in facts.nodes.values():
        for name, (value, severity, harm) in wanted.items():
            if node.settings[name] not in (value, ""):  # "": this version does not know it
                what = f"{node.address} has {name} {node.settings[name]}, which {harm}"
                mend = _cli(node.address, f"CONFIG SET {name} {value}") + " (and in its redis.conf)"
                yield Finding("settings", severity, what, mend)


def _memory(facts: Facts) -> Iterator[Finding]:
    """every node has memory left"""
    for state in facts.survey.shards:
        for node in state.nodes:
            if node.used_memory_bytes is None:
                continue
            if not node.maxmemory_bytes:
                what = f"{node.address} has no maxmemory: the kernel's limit is the only one"
                mend = _cli(node.address, "CONFIG SET maxmemory 4gb") + " (what the machine can spare)"
                yield Finding("memory", "note", what, mend)
                continue
            part = node.used_memory_bytes / node.maxmemory_bytes
            if part > MEMORY_PART_WARN:
                what = (
                    f"{node.address} uses {memory_text(node.used_memory_bytes)}, {part:.0%} of its maxmemory"
                )
                more = memory_text(2 * node.maxmemory_bytes).replace(" ", "").replace("iB", "b").lower()
                mend = (
                    _cli(node.address, f"CONFIG SET maxmemory {_whole(more)}") + ", or wallet-admin rebalance"
                )
                yield Finding("memory", "error" if part > MEMORY_PART_MAX else "warning", what, mend)


def _slots(facts: Facts) -> Iterator[Finding]:
    """the slots of every partition are where the map says, for every node alike"""
    primaries = {s.primary.view.node_id: s for s in facts.survey.shards if s.primary and s.primary.view}
    names = {node_id: state.shard.name for node_id, state in primaries.items()}
    of_shard = {state.shard.name: node_id for node_id, state in primaries.items()}
    count = len(facts.map.partitions)
    reported: set[tuple[int, str]] = set()
    for node in facts.nodes.values():
        owners, open_slots = slot_owners(node.cluster_nodes)
        for slot, word in open_slots:
            if str(slot * count // 16384) not in facts.moves:
                mend = _cli(node.address, f"CLUSTER SETSLOT {slot} STABLE")
                yield Finding("slots", "warning", f"{node.address} has slot {slot} half moved ({word})", mend)
        for partition, entry in enumerate(facts.map.partitions):
            wanted = of_shard.get(entry.shard)
            wrong = [slot for slot in slot_range(partition, count) if owners.get(slot) != wanted]
            if wanted is None or not wrong or str(partition) in facts.moves:
                continue
            owner = owners.get(wrong[0])
            where = (
                "nobody" if owner is None else f"shard {names[owner]}" if owner in names else f"node {owner}"
            )
            if (partition, where) in reported:
                continue
            reported.add((partition, where))
            live = wrong[0] == slot_range(partition, count)[0]
            span = f"{wrong[0]}-{wrong[-1]}"
            what = f"slots {span} of partition {partition} belong to {where}, the map says {entry.shard}"
            address = _address(primaries[wanted])
            in_a_row = wrong[-1] - wrong[0] == len(wrong) - 1
            slots = f"$(seq {wrong[0]} {wrong[-1]})" if in_a_row else " ".join(map(str, wrong))
            if owner is None:
                mend = _cli(address, f"CLUSTER ADDSLOTS {slots}")
            else:
                # No need to tell the others: they believe the highest epoch, and could not obey while they hold keys.
                # Under its old one the owner of now would take each slot back at once.
                take = _cli(address, f"CLUSTER SETSLOT $slot NODE {wanted}")
                mend = f"{_cli(address, 'CLUSTER BUMPEPOCH')}; for slot in {slots}; do {take}; done"
            yield Finding(
                "slots", "error" if live else "warning", f"{what} (as {node.address} sees it)", mend
            )


def _partitions(facts: Facts) -> Iterator[Finding]:
    """every partition is live, on its certified owner, under the epoch of the map"""
    ids = {s.shard.name: s.primary.view.node_id for s in facts.survey.shards if s.primary and s.primary.view}
    hosts = ", ".join(sorted({state.info.host for state in facts.survey.journals})) or "its host"
    recovery = (
        f"see the log of wallet-engine journal on {hosts}: it recovers by itself, or says why it cannot"
    )
    for status in facts.survey.partitions:
        p = f"partition {status.partition} on {status.shard}"
        if status.state == "unreachable" or (
            status.state == "moving" and str(status.partition) in facts.moves
        ):
            continue  # said by `nodes` and `moves`
        extra = facts.partitions.get(status.partition)
        if status.state == "moving":
            mend = f"wallet-admin rebuild {status.partition}"
            yield Finding("partitions", "error", f"{p} is frozen by a move that is not there", mend)
        elif extra is not None and extra.fault:
            what = f"{p} is stopped, for its journal does not come out as recorded: {extra.fault}"
            mend = f"wallet-admin verify --offline; when the journal is right: wallet-admin rebuild {status.partition}"
            yield Finding("partitions", "error", what, mend)
        elif status.state != "live":
            yield Finding("partitions", "error", f"{p} is {status.state} and takes no transfers", recovery)
        elif status.redis_epoch is not None and status.redis_epoch > status.epoch:
            what = f"{p} is at epoch {status.redis_epoch}, the map at {status.epoch}: the map is an old one"
            mend = "wallet-admin backup NOW.json; wallet-admin restore NOW.json --replace"
            yield Finding("partitions", "error", what, f"{mend} (it raises the epochs)")
        elif status.redis_epoch != status.epoch:
            what = f"{p} is at epoch {status.redis_epoch}, the map at {status.epoch}"
            yield Finding("partitions", "error", what, recovery)
        elif extra is not None and status.shard in ids and extra.owner != ids[status.shard]:
            what = (
                f"{p} was certified for node {extra.owner or 'nobody'}, and is served by {ids[status.shard]}"
            )
            yield Finding("partitions", "error", what, recovery)


def _scripts(facts: Facts) -> Iterator[Finding]:
    """the scripts are loaded on every primary"""
    for node in facts.nodes.values():
        if not node.scripts_loaded:
            what = f"{node.address} lacks the engine's scripts: it restarted, or its cache was flushed"
            mend = "send any request there: its API process then has the shard compared with the journal"
            yield Finding("scripts", "error", what, mend)


def _keys(facts: Facts) -> Iterator[Finding]:
    """Redis holds no key that is not the engine's"""
    for partition in facts.partitions.values():
        if partition.unknown_keys:
            shard = facts.map.shard_of(partition.partition)
            yield _foreign(facts, shard, partition.unknown_keys, len(partition.unknown_keys))
    if not facts.moves:  # a copy under way is in slots that are not the target's yet
        for node in facts.nodes.values():
            if node.stray_keys_total:
                yield _foreign(facts, node.shard, node.stray_keys, node.stray_keys_total)


def _foreign(facts: Facts, shard: str, names: tuple[str, ...], total: int) -> Finding:
    address = next(_address(state) for state in facts.survey.shards if state.shard.name == shard)
    shown = ", ".join(names[:3])
    what = f"{total} keys on shard {shard} belong to no partition of it: {shown}"
    return Finding(
        "keys", "warning", what, _cli(address, f"UNLINK '{names[0] if names else ''}'") + " (each)"
    )


def _journals(facts: Facts) -> Iterator[Finding]:
    """enough journal copies answer, none is far behind, their disks have room"""
    found = facts.survey
    answering = {state.info.journal_id for state in found.journals if state.durable is not None}
    needed, counted = found.config.journal_quorum, len(answering & facts.copies)
    enough = counted >= needed
    if not enough:
        what = f"{counted} journal copies answer and {needed} must: no transfer is answered"
        mend = "start wallet-engine journal with the --journal-id and --directory it had"
        yield Finding("journal", "error", what, mend)
    for name in sorted((facts.copies | {s.info.journal_id for s in found.journals}) - answering):
        info = next((s.info for s in found.journals if s.info.journal_id == name), None)
        where = "" if info is None else f" at {info.address}"
        what = f"journal copy {name}{where} does not answer"
        on = "" if info is None else f" on {info.host}, --directory {quote(info.directory)}"
        mend = f"start wallet-engine journal --journal-id {name}{on}"
        mend += f"; if its disk is lost and others live: --journal-id NEW --replaces {name}"
        yield Finding("journal", "warning", what, mend)
    for state in found.journals:
        if state.info.journal_id in answering - facts.copies:
            what = f"journal copy {state.info.journal_id} runs and does not count: it has not joined the others yet"
            mend = f"wait for joined in the log of wallet-engine journal on {state.info.host}, which says what it "
            yield Finding("journal", "warning", what, mend + "waits for; then take a new wallet-admin backup")
        if state.lag_entries is not None and state.lag_entries > LAG_ENTRIES_WARN:
            what = f"journal copy {state.info.journal_id} is {state.lag_entries:,} entries behind Redis"
            mend = f"look at the disk and the load of {state.info.host}: iostat -x 1"
            yield Finding("journal", "warning", what, mend)
    for name, free in facts.disk_free.items():
        if free < DISK_FREE_PART_WARN:
            severity = "error" if free < DISK_FREE_PART_MIN else "warning"
            mend = "give it more room: a journal that cannot write stops every payment"
            yield Finding("journal", severity, f"the disk of journal copy {name} has {free:.0%} free", mend)
    for partition in facts.partitions.values():
        entries, entries_max = partition.stream_entries, found.config.stream_entries_max
        if entries > STREAM_PART_WARN * entries_max:
            what = (
                f"in the stream of partition {partition.partition} {entries:,} entries wait for the journal"
            )
            what += f", of {entries_max:,}; then it takes no new work"
            if entries >= entries_max:
                what = (
                    f"partition {partition.partition} is FULL and takes no new work: {entries:,} entries wait"
                )
                what += f" for the journal, of {entries_max:,}"
            severity = "error" if entries > STREAM_PART_MAX * entries_max else "warning"
            mend = "wallet-admin journal info: a quorum of the copies must have them; the log of each says why not"
            yield Finding("journal", severity, what, mend)


def _beside(facts: Facts) -> Iterator[Finding]:
    """what journal copies do beside payments goes well: archiving, snapshots"""
    for state in facts.survey.journals:
        info = state.info
        for trouble in info.troubles:
            what = f"journal copy {info.journal_id}, since {time_text(trouble.since_ms)}: {trouble.what}"
            mend = f"see the log of wallet-engine journal on {info.host}; it tries again by itself"
            yield Finding("archive", "warning", what, mend)


def _open(facts: Facts) -> Iterator[Finding]:
    """no transfer is open for longer than the sweeper takes"""
    for entry in facts.open_entries:
        if entry.in_stream:
            continue
        what = (
            f"open entry {entry.seq} of partition {entry.partition} is not in the stream: nobody can end it"
        )
        yield Finding("open entries", "error", what, f"wallet-admin rebuild {entry.partition}")
    ageless = [entry for entry in facts.open_entries if entry.in_stream and entry.age_ms is None]
    if ageless:
        what = f"{len(ageless)} open entries are of unknown age: the clock of their Redis node was set back"
        mend = "wallet-admin pending, twice, 10 s apart: what is shown both times is stuck"
        yield Finding("open entries", "warning", what, mend)
    old = [e for e in facts.open_entries if e.age_ms is not None and e.age_ms > OPEN_AGE_MS_WARN]
    if old:
        age_ms = max(entry.age_ms or 0 for entry in old)
        waits = next((t.waits_for for t in old[0].transfers), "its settle")
        what = f"{len(old)} entries are open for up to {age_ms // 1000} s; the oldest waits for {waits}"
        severity = "error" if age_ms > OPEN_AGE_MS_MAX else "warning"
        yield Finding("open entries", severity, what, "wallet-admin pending --older-than 60")


def _moves(facts: Facts) -> Iterator[Finding]:
    """no move stands half-way"""
    for partition in facts.moves:
        what = f"a move of partition {partition} is not finished: {_text(facts.moves[partition])}"
        mend = f"wallet-admin moves; then wallet-admin resume {partition}, or wallet-admin abort {partition}"
        yield Finding("moves", "warning", what, mend)


def _map(facts: Facts) -> Iterator[Finding]:
    """the map names shards that there are"""
    known = {state.shard.name for state in facts.survey.shards}
    for name in sorted({entry.shard for entry in facts.map.partitions} - known):
        what = f"the map puts partitions on shard {name}, which nobody described"
        yield Finding("map", "error", what, "wallet-admin restore FILE, from the newest wallet-admin backup")


def _clocks(facts: Facts) -> Iterator[Finding]:
    """the clocks of the Redis nodes, of the API processes and of this machine agree"""
    clocks = [(node.address, node.address, node.clock_ahead_ms) for node in facts.nodes.values()]
    clocks += [
        (f"API process {info.service_id}", info.address, facts.services[info.service_id].clock_ahead_ms)
        for info in facts.survey.services
    ]
    for name, address, ahead_ms in clocks:
        off_ms = abs(ahead_ms)
        if off_ms > CLOCK_MS_WARN:
            side = "ahead of" if ahead_ms > 0 else "behind"
            what = f"the clock of {name} is {off_ms / 1000:.1f} s {side} this machine's"
            mend = f"chronyc makestep, on {split_address(address)[0]} or here, whichever is wrong"
            yield Finding("clocks", "error" if off_ms > CLOCK_MS_MAX else "warning", what, mend)
    dated_ahead: dict[str, list[int]] = defaultdict(list)
    for partition in facts.partitions.values():
        if partition.recorded_ahead_ms > CLOCK_MS_WARN:
            dated_ahead[facts.map.shard_of(partition.partition)].append(partition.recorded_ahead_ms)
    for shard, found in dated_ahead.items():
        what = f"entries of {len(found)} partitions of shard {shard} are dated up to {max(found) / 1000:.1f} s ahead"
        what += " of their node's clock, which was set back: until it has caught up, all have one date"
        yield Finding("clocks", "warning", what, "nothing but time; transfers do not go by dates")


def _services(facts: Facts) -> Iterator[Finding]:
    """API processes are registered and ready"""
    services = facts.survey.services
    if not services:
        what = "no API process is registered: nobody can pay"
        yield Finding("services", "critical", what, "start wallet-engine serve")
    dead = [info for info in services if facts.services[info.service_id].dead]
    for info in services:
        state = facts.services[info.service_id]
        if state.why:
            what = f"API process {info.service_id} at {info.address} is not ready: {state.why}"
            severity = "critical" if len(dead) == len(services) else "warning"
            yield Finding("services", severity, what, f"curl -s http://{info.address}/readyz, and its log")


def _access(facts: Facts) -> Iterator[Finding]:
    """nobody is let in without saying who he is, but on loopback"""
    told = [f"API process {info.service_id}" for info in facts.survey.services if info.insecure]
    told += [
        f"journal copy {state.info.journal_id}" for state in facts.survey.journals if state.info.insecure
    ]
    for who in told:
        what = f"{who} runs with --insecure: whoever reaches it is let in"
        yield Finding("access", "warning", what, "wallet-admin key create NAME --role ROLE; start it without")


#: In the order of the report: what is below cannot be well if what is above is not.
CHECKS: Final[Mapping[str, Callable[[Facts], Iterator[Finding]]]] = {
    "zookeeper": _zookeeper,
    "map": _map,
    "nodes": _nodes,
    "strangers": _strangers,
    "settings": _settings,
    "memory": _memory,
    "clocks": _clocks,
    "slots": _slots,
    "scripts": _scripts,
    "partitions": _partitions,
    "keys": _keys,
    "journal": _journals,
    "archive": _beside,
    "open entries": _open,
    "moves": _moves,
    "services": _services,
    "payments": payments,
    "access": _access,
}


def find(facts: Facts) -> list[Finding]:
    """Everything that is wrong, in the order of `CHECKS`."""
    return [finding for check in CHECKS.values() for finding in check(facts)]


def slot_owners(cluster_nodes: str) -> tuple[dict[int, str], list[tuple[int, str]]]:
    """slot -> node id, and the half-moved slots of the node itself (redis.io/commands/cluster-nodes)."""
    owners: dict[int, str] = {}
    half: list[tuple[int, str]] = []
    for line in cluster_nodes.splitlines():
        words = line.split(" ")
        for word in words[8:]:
            if match := re.match(r"\[(\d+)-([<>])-", word):
                half.append((int(match[1]), "importing" if match[2] == "<" else "migrating"))
                continue
            first, _, last = word.partition("-")
            owners.update(dict.fromkeys(range(int(first), int(last or first) + 1), words[0]))
    return owners, half


def _address(state: ShardState) -> str:
    return state.shard.nodes[0] if state.primary is None else state.primary.address


def _whole(text: str) -> str:
    """`12.3gb` -> `12gb`: Redis takes no fractions."""
    return re.sub(r"\.\d+", "", text)


def _text(data: bytes) -> str:
    return " ".join(data.decode("utf-8", "replace").split())[:120]
