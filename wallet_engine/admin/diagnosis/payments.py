"""Findings of `doctor` about payments: whether a test write reached every partition and every journal copy."""

from collections.abc import Iterator, Sequence
from typing import Final

from wallet_engine.admin.diagnosis.examination import Facts
from wallet_engine.admin.diagnosis.finding import Finding
from wallet_engine.admin.diagnosis.mends import Mend, by_hand, redis_cli, wallet_admin
from wallet_engine.admin.diagnosis.probing import RECEIPT_S_MAX, Probe
from wallet_engine.admin.diagnosis.redis_findings import (
    MAXMEMORY_BYTES_MIN,
    more_memory,
    set_clock,
    start_redis,
)
from wallet_engine.engine.conditions import Condition

#: Partitions named in one finding.
PARTITIONS_NAMED_MAX: Final = 8


def payments(facts: Facts) -> Iterator[Finding]:
    """a write that changes nothing goes through every partition and every journal copy"""
    probes, count = facts.probes, len(facts.map.partitions)
    groups: dict[tuple[str, Condition], list[Probe]] = {}
    for probe in probes.refused:
        assert probe.condition is not None  # `refused` has only probes with a condition
        groups.setdefault((facts.map.shard_of(probe.partition), probe.condition), []).append(probe)
    if len(probes.refused) == count:
        why = ", ".join(sorted({condition.value for _, condition in groups}))
        what = f"nothing can be paid: no partition took a test write ({why})"
        yield Finding("payments", "critical", what, by_hand("see the errors below"))
    for (shard, condition), found in groups.items():
        what = f"{_names(found)} on {shard} cannot be paid: {condition.value}: {found[0].detail}"
        yield Finding("payments", "error", what, _mend(facts, shard, condition))
    for journal_id, late in probes.late.items():
        what = (
            f"journal copy {journal_id} answers, but did not confirm {late} of {probes.written} test writes"
        )
        host = next(s.info.host for s in facts.survey.journals if s.info.journal_id == journal_id)
        mend = by_hand(f"see the load of the disk on {host}, and the log of wallet-engine journal there")
        yield Finding("payments", "warning", f"{what} within {RECEIPT_S_MAX:.0f} s", mend)


def _names(probes: Sequence[Probe]) -> str:
    named = ", ".join(str(probe.partition) for probe in probes[:PARTITIONS_NAMED_MAX])
    more = len(probes) - PARTITIONS_NAMED_MAX
    return f"partition{'s' if len(probes) > 1 else ''} {named}" + (f" and {more} more" if more > 0 else "")


def _mend(facts: Facts, shard: str, condition: Condition) -> Mend:
    state = next((s for s in facts.survey.shards if s.shard.name == shard), None)
    if state is None:
        return by_hand("see the finding about the map")
    address = state.shard.nodes[0] if state.primary is None else state.primary.address
    journals = ", ".join(sorted({s.info.host for s in facts.survey.journals})) or "its host"
    match condition:
        case Condition.UNREACHABLE:
            return start_redis(state)
        case Condition.REFUSED:
            said = "its output, or that of the other command, shows why"
            return Mend(
                redis_cli(address, "INFO", "persistence"), said, (redis_cli(address, "INFO", "replication"),)
            )
        case Condition.MEMORY:
            now_bytes = 0 if state.primary is None else state.primary.maxmemory_bytes or 0
            more = more_memory(address, max(2 * now_bytes, MAXMEMORY_BYTES_MIN))
            return Mend(more, "or as much as the machine can spare; or", (wallet_admin("rebalance"),))
        case Condition.FULL:
            said = "a quorum of the copies must write what waits; the log of a copy says why it does not"
            return Mend(wallet_admin("journal", "info"), said)
        case Condition.SKEWED:
            return set_clock(address)
        case Condition.MOVING:
            said = "a running move ends by itself; an interrupted one has a finding of its own"
            return Mend(wallet_admin("moves"), said)
        case Condition.NO_RECEIPT:
            said = (
                f"see the log of wallet-engine journal on {journals}, and start the copies that do not answer"
            )
            return by_hand(said)
        case _:
            said = f"see the log of wallet-engine journal on {journals}: it recovers by itself, or says why it cannot"
            return by_hand(said)
