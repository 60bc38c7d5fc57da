"""Findings of `doctor` about partitions: whether each serves, and why not."""

from collections import defaultdict
from collections.abc import Iterator

from wallet_engine.admin.diagnosis import redis_findings
from wallet_engine.admin.diagnosis.examination import Facts
from wallet_engine.admin.diagnosis.finding import Finding
from wallet_engine.admin.diagnosis.mends import Mend, by_hand, wallet_admin
from wallet_engine.admin.survey import JournalState
from wallet_engine.recovery.refused import refused_partition


def partitions(facts: Facts) -> Iterator[Finding]:
    """every partition is live, on its certified owner, under the epoch of the map"""
    ids = {s.shard.name: s.primary.view.node_id for s in facts.survey.shards if s.primary and s.primary.view}
    hosts = ", ".join(sorted({state.info.host for state in facts.survey.journals})) or "its host"
    recovery = by_hand(
        f"see the log of wallet-engine journal on {hosts}: it recovers by itself, or says why it cannot"
    )
    refused: defaultdict[int, list[str]] = defaultdict(list)
    for journal, partition, why in _refusals(facts):
        refused[partition].append(f"{journal.info.journal_id} says {why}")
    for status in facts.survey.partitions:
        p = f"partition {status.partition} on {status.shard}"
        if status.state == "unreachable" or (
            status.state == "moving" and str(status.partition) in facts.moves
        ):
            continue  # `nodes` and `moves` report it
        extra = facts.partitions.get(status.partition)
        if status.state == "moving":
            yield Finding("partitions", "error", f"{p} is frozen by a move that does not exist", recovery)
        elif extra is not None and extra.fault:
            what = f"{p} is stopped: its journal does not replay as recorded, or copies differ: {extra.fault}"
            again = wallet_admin("rebuild", status.partition)
            said = "RUNBOOKS.md, A partition is stopped; when the journal is right"
            mend = Mend(wallet_admin("verify", "--offline"), said, (again,))
            yield Finding("partitions", "error", what, mend)
        elif status.state != "live":
            what = ": ".join(
                (f"{p} is {status.state} and takes no transfers", *refused[status.partition][:1])
            )
            yield Finding("partitions", "error", what, recovery)
        elif status.redis_epoch is not None and status.redis_epoch > status.epoch:
            what = f"{p} is at epoch {status.redis_epoch}, the map at {status.epoch}: the map is an old one"
            yield Finding(
                "partitions", "error", what, Mend(redis_findings.written_anew(), "it raises the epochs")
            )
        elif status.redis_epoch != status.epoch:
            what = f"{p} is at epoch {status.redis_epoch}, the map at {status.epoch}"
            yield Finding("partitions", "error", what, recovery)
        elif extra is not None and status.shard in ids and extra.owner != ids[status.shard]:
            what = (
                f"{p} was certified for node {extra.owner or 'nobody'}, and is served by {ids[status.shard]}"
            )
            yield Finding("partitions", "error", what, recovery)
        elif refused[status.partition]:
            yield Finding(
                "partitions", "warning", f"{p} is live, but {refused[status.partition][0]}", recovery
            )


def _refusals(facts: Facts) -> Iterator[tuple[JournalState, int, str]]:
    """Why a journal copy does not recover a partition."""
    for state in facts.survey.journals:
        for trouble in state.info.troubles:
            partition = refused_partition(trouble.what)
            if partition is not None:
                yield state, partition, trouble.what


def scripts(facts: Facts) -> Iterator[Finding]:
    """the scripts are loaded on every primary"""
    for node in facts.nodes.values():
        if not node.scripts_loaded:
            what = f"{node.address} lacks the engine's scripts: it restarted, or its cache was flushed"
            said = "again: this run has asked the journal process to compare the node with the journal"
            mend = Mend(wallet_admin("doctor"), said)
            yield Finding("scripts", "error", what, mend)
