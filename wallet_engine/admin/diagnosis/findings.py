"""Decides what is wrong with a cluster from the facts of `examine`: one plain function per check.

A finding says what is wrong and gives the exact command that mends it, made in `mends`. The docstring of a check is
printed by `doctor` when the check finds nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from wallet_engine.admin.diagnosis import redis_findings
from wallet_engine.admin.diagnosis.certificates import ending
from wallet_engine.admin.diagnosis.examination import Facts
from wallet_engine.admin.diagnosis.finding import Finding
from wallet_engine.admin.diagnosis.followers import followers
from wallet_engine.admin.diagnosis.holds import overdue
from wallet_engine.admin.diagnosis.layout import layout
from wallet_engine.admin.diagnosis.mends import Mend, by_hand, program, redis_cli, wallet_admin, wallet_engine
from wallet_engine.admin.diagnosis.partitions import partitions, scripts
from wallet_engine.admin.diagnosis.payments import payments
from wallet_engine.admin.nodes import memory_text
from wallet_engine.admin.tracing.open_groups import OpenGroup
from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.times import time_text
from wallet_engine.recovery.refused import refused_partition
from wallet_engine.routing.model import JournalInfo

#: Used part of a limit: from here a warning, and from here an error.
MEMORY_PART_WARN: Final = 0.70
MEMORY_PART_MAX: Final = 0.85
STREAM_PART_WARN: Final = 0.10
STREAM_PART_MAX: Final = 0.50
DISK_FREE_PART_WARN: Final = 0.20
DISK_FREE_PART_MIN: Final = 0.05
#: The clocks give every entry its date, and are used for nothing else.
CLOCK_MS_WARN: Final = 1_000
CLOCK_MS_MAX: Final = 60_000
LAG_ENTRIES_WARN: Final = 1_000
#: A minute is many times longer than the sweeper needs to end an interrupted transfer.
OPEN_AGE_MS_WARN: Final = 60_000
OPEN_AGE_MS_MAX: Final = 600_000


def _zookeeper(facts: Facts) -> Iterator[Finding]:
    """every server of the ensemble serves"""
    down = [server.address for server in facts.zookeeper if not server.mode]
    left = len(facts.zookeeper) - len(down)
    for address in down:
        bad = "error" if left <= len(facts.zookeeper) // 2 + 1 else "warning"
        what = f"ZooKeeper at {address} does not serve; {left} of {len(facts.zookeeper)} do"
        mend = by_hand(f"start ZooKeeper on {split_address(address)[0]} again, or see its log")
        yield Finding("zookeeper", bad, what, mend)


def _directory(facts: Facts) -> Iterator[Finding]:
    """everything in the directory can be read"""
    for what in facts.damaged:
        mend = by_hand(
            "what needs it waits until it is written anew: by its process, or from a backup of the directory"
        )
        yield Finding("directory", "error", what, mend)


def _settings(facts: Facts) -> Iterator[Finding]:
    """Redis evicts nothing, and one dead shard stops no other"""
    wanted = {
        "maxmemory-policy": ("noeviction", "error", "may evict balances"),
        "cluster-require-full-coverage": ("no", "warning", "stops every shard when one is down"),
        "cluster-allow-replica-migration": ("no", "warning", "lets a replica leave its shard by itself"),
    }
    for node in facts.nodes.values():
        for name, (value, severity, harm) in wanted.items():
            if node.settings.get(name, "") not in (value, ""):  # "": this version does not have the setting
                what = f"{node.address} has {name} {node.settings[name]}, which {harm}"
                mend = Mend(
                    redis_cli(node.address, "CONFIG", "SET", name, value), "and set it in its redis.conf"
                )
                yield Finding("settings", severity, what, mend)
        if node.unchecked:
            missing = [name for name in wanted if name not in node.settings]
            what = f"not checked: {', '.join(missing)} of {node.address}, which {node.unchecked}"
            yield Finding("settings", "note", what, by_hand("look them up where that Redis is configured"))
    for address, why in facts.refused.items():
        what = f"not checked: settings, clock, slots, scripts and keys of {address}, which {why}"
        yield Finding(
            "settings", "warning", what, by_hand("give this command's --redis-user the right to do that")
        )


def _memory(facts: Facts) -> Iterator[Finding]:
    """every node has memory left"""
    for state in facts.survey.shards:
        for node in state.nodes:
            if node.used_memory_bytes is None:
                continue
            if not node.maxmemory_bytes:
                what = f"{node.address} has no maxmemory: the kernel's limit is the only one"
                spare = max(2 * node.used_memory_bytes, redis_findings.MAXMEMORY_BYTES_MIN)
                mend = Mend(
                    redis_findings.more_memory(node.address, spare), "or as much as the machine can spare"
                )
                yield Finding("memory", "note", what, mend)
                continue
            part = node.used_memory_bytes / node.maxmemory_bytes
            if part > MEMORY_PART_WARN:
                used = memory_text(node.used_memory_bytes)
                what = f"{node.address} uses {used}, {part:.0%} of its maxmemory"
                more = redis_findings.more_memory(node.address, 2 * node.maxmemory_bytes)
                severity = "error" if part > MEMORY_PART_MAX else "warning"
                yield Finding("memory", severity, what, Mend(more, "or", (wallet_admin("rebalance"),)))


def _journals(facts: Facts) -> Iterator[Finding]:
    """enough journal copies answer, none is far behind, their disks have room"""
    found = facts.survey
    answering = {state.info.journal_id for state in found.journals if state.durable is not None}
    needed, counted = found.config.journal_quorum, len(answering & facts.copies)
    enough = counted >= needed
    if not enough:
        what = f"{counted} journal copies answer and {needed} must: no transfer is answered"
        mend = by_hand("start wallet-engine journal with the --journal-id and --directory it had")
        yield Finding("journal", "error", what, mend)
    for name in sorted((facts.copies | {s.info.journal_id for s in found.journals}) - answering):
        info = next((s.info for s in found.journals if s.info.journal_id == name), None)
        where = "" if info is None else f" at {info.address}"
        what = f"journal copy {name}{where} does not answer"
        # The rule of every recovery: that many copies together have every answered entry.
        replaceable = counted >= len(facts.copies) - needed + 1
        yield Finding("journal", "warning", what, _start_copy(name, info, replaceable))
    for state in found.journals:
        if state.info.journal_id in answering - facts.copies:
            what = f"journal copy {state.info.journal_id} runs and does not count: it has not joined the others yet"
            said = f"wait until the log of wallet-engine journal on {state.info.host} says joined, or why not; then"
            mend = Mend(None, said, (wallet_admin("backup", "NOW.json"),))
            yield Finding("journal", "warning", what, mend)
        if state.lag_entries is not None and state.lag_entries > LAG_ENTRIES_WARN:
            what = f"journal copy {state.info.journal_id} is {state.lag_entries:,} entries behind Redis"
            mend = by_hand(f"see the load of the disk on {state.info.host}, and the log of the copy")
            yield Finding("journal", "warning", what, mend)
    for name, free in facts.disk_free.items():
        if free < DISK_FREE_PART_WARN:
            severity = "error" if free < DISK_FREE_PART_MIN else "warning"
            mend = by_hand("give it more room: a journal that cannot write stops every payment")
            yield Finding("journal", severity, f"the disk of journal copy {name} has {free:.0%} free", mend)
    for partition in facts.partitions.values():
        entries, entries_max = partition.stream_entries, found.config.stream_entries_max
        if entries > STREAM_PART_WARN * entries_max:
            what = (
                f"in the stream of partition {partition.partition} {entries:,} entries wait for the journal"
            )
            what += f"; at {entries_max:,} it takes no new work"
            if entries >= entries_max:
                what = (
                    f"partition {partition.partition} is FULL and takes no new work: {entries:,} entries wait"
                )
                what += f" for the journal, and {entries_max:,} may"
            severity = "error" if entries > STREAM_PART_MAX * entries_max else "warning"
            said = "a quorum of the copies must write them; the log of a copy says why it does not"
            mend = Mend(wallet_admin("journal", "info"), said)
            yield Finding("journal", severity, what, mend)


def _start_copy(name: str, info: JournalInfo | None, replaceable: bool) -> Mend:
    """Start the copy where it was, or replace it if the other copies have all that it may have receipted."""
    folder = "DIRECTORY" if info is None else info.directory
    where = "" if info is None else f"on {info.host}, "
    start = wallet_engine("journal", "--journal-id", name, "--directory", folder)
    if not replaceable:
        said = "with the other flags it had; no copy can take its place: it may have answered entries alone"
        return Mend(start, f"{where}{said}")
    return Mend(
        start,
        f"{where}with the other flags it had; if its disk is lost and others live",
        (wallet_engine("journal", "--journal-id", "NEW", "--directory", "EMPTY", "--replaces", name),),
    )


def _beside(facts: Facts) -> Iterator[Finding]:
    """archiving, snapshots and disk space of the journal copies are in order"""
    if not facts.survey.journals:
        what = "not checked: no journal copy runs"
        yield Finding("archive", "note", what, by_hand("start one: see journal"))
    for state in facts.survey.journals:
        info = state.info
        if state.durable is None:
            what = f"not checked: what journal copy {info.journal_id}, which does not answer, does beside payments"
            yield Finding("archive", "note", what, by_hand("see journal"))
        for trouble in info.troubles:
            if trouble.what.startswith("certificates ") or refused_partition(trouble.what) is not None:
                continue  # `certificates` and `partitions` report these
            what = f"journal copy {info.journal_id}, since {time_text(trouble.since_ms)}: {trouble.what}"
            mend = by_hand(f"see the log of wallet-engine journal on {info.host}; it tries again by itself")
            if trouble.what.startswith(("disk:", "prune:")):
                dry_run = wallet_admin("journal", "prune", "--keep", "7d", "--dry-run")
                mend = Mend(
                    dry_run, f"on {info.host}: shows which segments can be removed, and what needs the others"
                )
            yield Finding("archive", "warning", what, mend)


def _open(facts: Facts) -> Iterator[Finding]:
    """no transfer, and no part of a group, is open for longer than the sweepers take"""
    for entry in facts.open_entries:
        if entry.in_stream and not entry.unreadable:
            continue
        why = f"cannot be read ({entry.unreadable})" if entry.unreadable else "is not in the stream"
        what = f"open entry {entry.seq} of partition {entry.partition} {why}: no process can end it"
        yield Finding("open entries", "error", what, Mend(wallet_admin("rebuild", entry.partition)))
    ageless = [e for e in facts.open_entries if e.in_stream and not e.unreadable and e.age_ms is None]
    if ageless:
        what = f"{len(ageless)} open entries are of unknown age: the clock of their Redis node was set back"
        mend = Mend(wallet_admin("pending"), "twice, 10 s apart: entries shown both times are stuck")
        yield Finding("open entries", "warning", what, mend)
    old = [e for e in facts.open_entries if e.age_ms is not None and e.age_ms > OPEN_AGE_MS_WARN]
    if old:
        age_ms = max(entry.age_ms or 0 for entry in old)
        waits = next((t.waits_for for t in old[0].transfers), "its settle")
        what = f"{len(old)} entries are open for up to {age_ms // 1000} s; the oldest waits for {waits}"
        severity = "error" if age_ms > OPEN_AGE_MS_MAX else "warning"
        yield Finding(
            "open entries",
            severity,
            what,
            Mend(wallet_admin("pending", "--older-than", OPEN_AGE_MS_WARN // 1000)),
        )
    yield from _open_groups(facts.open_groups)


def _open_groups(groups: Sequence[OpenGroup]) -> Iterator[Finding]:
    for group in groups:
        if group.record is None:
            what = f"the record of group {group.transaction_id} in partition {group.partition} cannot be read"
            what += ": no process can end it"
            yield Finding("open entries", "error", what, Mend(wallet_admin("rebuild", group.partition)))
    ages = {
        group: group.at_least_ms if group.age_ms is None else group.age_ms for group in groups if group.record
    }
    old = {group: age_ms for group, age_ms in ages.items() if age_ms > OPEN_AGE_MS_WARN}
    if old:
        oldest = max(old, key=old.__getitem__)
        what = f"{len(old)} parts of groups are open for up to {old[oldest] // 1000} s; the oldest waits for "
        severity = "error" if old[oldest] > OPEN_AGE_MS_MAX else "warning"
        mend = Mend(wallet_admin("pending", "--older-than", OPEN_AGE_MS_WARN // 1000))
        yield Finding("open entries", severity, what + oldest.waits_for, mend)
    if ageless := [group for group in ages if group.age_ms is None and group not in old]:
        what = f"{len(ageless)} parts of groups are open since an unknown time; one waits for "
        mend = Mend(wallet_admin("pending"), "twice, 10 s apart: groups shown both times are stuck")
        yield Finding("open entries", "warning", what + ageless[0].waits_for, mend)


def _moves(facts: Facts) -> Iterator[Finding]:
    """no move was left unfinished"""
    for partition in facts.moves:
        what = f"a move of partition {partition} is not finished: {_text(facts.moves[partition])}"
        mend = Mend(wallet_admin("resume", partition), "or", (wallet_admin("abort", partition),))
        yield Finding("moves", "warning", what, mend)


def _map(facts: Facts) -> Iterator[Finding]:
    """every shard that the map names exists"""
    known = {state.shard.name for state in facts.survey.shards}
    for name in sorted({entry.shard for entry in facts.map.partitions} - known):
        what = f"the map puts partitions on shard {name}, which the tree does not describe"
        restore = ("restore", "FILE", "--replace")
        described = wallet_admin(*restore, "--shard", f"{name}=HOST:PORT")
        said = "FILE is the newest backup with that shard; if there is none, give all its nodes"
        mend = Mend(wallet_admin(*restore), said, (described,))
        yield Finding("map", "error", what, mend)


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
            mend = redis_findings.set_clock(address)
            yield Finding("clocks", "error" if off_ms > CLOCK_MS_MAX else "warning", what, mend)
    dated_ahead: dict[str, list[int]] = defaultdict(list)
    for partition in facts.partitions.values():
        if partition.recorded_ahead_ms > CLOCK_MS_WARN:
            dated_ahead[facts.map.shard_of(partition.partition)].append(partition.recorded_ahead_ms)
    for shard, found in dated_ahead.items():
        what = f"entries of {len(found)} partitions of shard {shard} are dated up to {max(found) / 1000:.1f} s ahead"
        what += " of their node's clock, which was set back: until it has caught up, all new ones get the same date"
        yield Finding("clocks", "warning", what, by_hand("wait: dates do not affect transfers"))


def _services(facts: Facts) -> Iterator[Finding]:
    """API processes are registered and ready"""
    services = facts.survey.services
    if not services:
        what = "no API process is registered: nobody can pay"
        yield Finding("services", "critical", what, Mend(wallet_engine("serve")))
    dead = [info for info in services if facts.services[info.service_id].dead]
    for info in services:
        state = facts.services[info.service_id]
        if state.why:
            what = f"API process {info.service_id} at {info.address} is not ready: {state.why}"
            severity = "critical" if len(dead) == len(services) else "warning"
            # Without a key nothing secret is sent, so the certificate need not be trusted.
            words = (
                ("-k", f"https://{info.address}/readyz") if info.tls else (f"http://{info.address}/readyz",)
            )
            mend = Mend(program("curl", "-s", *words), "and see its log")
            yield Finding("services", severity, what, mend)


def _access(facts: Facts) -> Iterator[Finding]:
    """callers beyond loopback must identify themselves"""
    make_key = wallet_admin("key", "create", "NAME", "--role", "ROLE")
    told = [
        (f"API process {info.service_id}", make_key, "and start it without --insecure")
        for info in facts.survey.services
        if info.insecure
    ]
    told += [
        (
            f"journal copy {state.info.journal_id}",
            wallet_admin("ca", "issue", "journal", state.info.journal_id, "--ca", "DIR"),
            "and start it with --peer-ca, --peer-cert and --peer-key, and without --insecure",
        )
        for state in facts.survey.journals
        if state.info.insecure
    ]
    for who, command, further in told:
        what = f"{who} runs with --insecure: anyone who reaches it is let in"
        yield Finding("access", "warning", what, Mend(command, further))


def _certificates(facts: Facts) -> Iterator[Finding]:
    """no certificate ends within 30 days: of servers, of callers of the journal, of this command"""
    yield from ending(facts.certificates)
    for state in facts.survey.journals:
        for trouble in state.info.troubles:
            if trouble.what.startswith("certificates "):
                what = f"journal copy {state.info.journal_id}: {trouble.what}"
                mend = Mend(
                    wallet_admin("ca", "list", "--ca", "DIR"),
                    "then ca issue … --renew for each, and copy both files there: they are reloaded",
                )
                yield Finding("certificates", "warning", what, mend)


#: In the order of the report: a check can only be well if those above it are.
CHECKS: Final[Mapping[str, Callable[[Facts], Iterator[Finding]]]] = {
    "zookeeper": _zookeeper,
    "directory": _directory,
    "map": _map,
    "nodes": redis_findings.nodes,
    "layout": layout,
    "strangers": redis_findings.strangers,
    "settings": _settings,
    "memory": _memory,
    "clocks": _clocks,
    "slots": redis_findings.slots,
    "scripts": scripts,
    "partitions": partitions,
    "keys": redis_findings.keys,
    "expiry": redis_findings.expiry,
    "journal": _journals,
    "archive": _beside,
    "followers": followers,
    "open entries": _open,
    "holds": overdue,
    "moves": _moves,
    "services": _services,
    "payments": payments,
    "access": _access,
    "certificates": _certificates,
}


def find(facts: Facts) -> list[Finding]:
    """All findings, in the order of `CHECKS`."""
    return [finding for check in CHECKS.values() for finding in check(facts)]


def _text(data: bytes) -> str:
    return " ".join(data.decode("utf-8", "replace").split())[:120]
