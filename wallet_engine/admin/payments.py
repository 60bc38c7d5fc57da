"""What `doctor` says of payments: whether a write went through every partition and every journal copy."""

from collections.abc import Iterator, Sequence
from typing import Final

from wallet_engine.admin.examination import Facts
from wallet_engine.admin.finding import Finding, redis_cli
from wallet_engine.admin.probing import RECEIPT_S_MAX, Probe
from wallet_engine.domain.addresses import split_address
from wallet_engine.engine.conditions import Condition

#: Partitions named in one finding.
PARTITIONS_NAMED_MAX: Final = 8


def payments(facts: Facts) -> Iterator[Finding]:
    """a write that changes nothing goes through every partition and every journal copy"""
    probes, count = facts.probes, len(facts.map.partitions)
    groups: dict[tuple[str, Condition], list[Probe]] = {}
    for probe in probes.refused:
        assert probe.condition is not None  # what is refused has one
        groups.setdefault((facts.map.shard_of(probe.partition), probe.condition), []).append(probe)
    if len(probes.refused) == count:
        why = ", ".join(sorted({condition.value for _, condition in groups}))
        what = f"nothing can be paid: no partition took a test write ({why})"
        yield Finding("payments", "critical", what, "what the errors below say")
    for (shard, condition), found in groups.items():
        what = f"{_names(found)} on {shard} cannot be paid: {condition.value}: {found[0].detail}"
        yield Finding("payments", "error", what, _mend(facts, shard, condition))
    for journal_id, late in probes.late.items():
        what = (
            f"journal copy {journal_id} answers, and has not confirmed {late} of {probes.written} test writes"
        )
        host = next(s.info.host for s in facts.survey.journals if s.info.journal_id == journal_id)
        mend = f"see the log of wallet-engine journal on {host}, and its disk: iostat -x 1"
        yield Finding("payments", "warning", f"{what} within {RECEIPT_S_MAX:.0f} s", mend)


def _names(probes: Sequence[Probe]) -> str:
    named = ", ".join(str(probe.partition) for probe in probes[:PARTITIONS_NAMED_MAX])
    more = len(probes) - PARTITIONS_NAMED_MAX
    return f"partition{'s' if len(probes) > 1 else ''} {named}" + (f" and {more} more" if more > 0 else "")


def _mend(facts: Facts, shard: str, condition: Condition) -> str:
    state = next((s for s in facts.survey.shards if s.shard.name == shard), None)
    if state is None:
        return "what the finding of the map says"
    address = state.shard.nodes[0] if state.primary is None else state.primary.address
    journals = ", ".join(sorted({s.info.host for s in facts.survey.journals})) or "its host"
    match condition:
        case Condition.UNREACHABLE:
            return f"start redis-server on one of {', '.join(state.shard.nodes)}"
        case Condition.REFUSED:
            return f"what it says; {redis_cli(address, 'INFO persistence')} and INFO replication show why"
        case Condition.MEMORY:
            return (
                f"give {address} more memory: {redis_cli(address, 'CONFIG SET maxmemory')} and a higher value"
            )
        case Condition.FULL:
            return "wallet-admin pending; wallet-admin journal info"
        case Condition.SKEWED:
            return f"chronyc makestep, on {split_address(address)[0]} or here, whichever is wrong"
        case Condition.MOVING:
            return "wallet-admin moves; a move under way ends by itself or with wallet-admin resume"
        case Condition.NO_RECEIPT:
            return (
                f"see the log of wallet-engine journal on {journals}, and start the copies that do not answer"
            )
        case _:
            return f"see the log of wallet-engine journal on {journals}: it recovers by itself, or says why it cannot"
