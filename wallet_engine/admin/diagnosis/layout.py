"""Findings of `doctor` about placement: what the loss of one host would take away.

A cluster on loopback is on one machine on purpose, so nothing is reported.
"""

from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address

from wallet_engine.admin.diagnosis.examination import Facts
from wallet_engine.admin.diagnosis.finding import Finding
from wallet_engine.admin.diagnosis.mends import Mend, by_hand, wallet_admin
from wallet_engine.admin.survey import ShardState
from wallet_engine.domain.addresses import split_address


def layout(facts: Facts) -> Iterator[Finding]:
    """shards and journal copies survive the loss of any one host"""
    if all(_is_loopback(host_of(node.address)) for state in facts.survey.shards for node in state.nodes):
        return
    yield from _primaries(facts.survey.shards)
    yield from _copies(facts)
    for state in facts.survey.shards:
        yield from _replicas(state)


def host_of(address: str) -> str:
    return split_address(address)[0]


def _primaries(shards: tuple[ShardState, ...]) -> Iterator[Finding]:
    hosts = Counter(host_of(state.primary.address) for state in shards if state.primary is not None)
    for host, primaries in hosts.items():
        if len(shards) > 1 and 2 * primaries > len(shards):
            what = f"{host} has {primaries} of {len(shards)} primaries: if it goes, Redis elects none in their place"
            mend = Mend(
                wallet_admin("rebalance", "--primaries"), "where replicas on other hosts can take over"
            )
            yield Finding("layout", "warning", what, mend)


def _copies(facts: Facts) -> Iterator[Finding]:
    """A copy that does not answer counts, and could be on any host."""
    counted = [state.info for state in facts.survey.journals if state.info.journal_id in facts.copies]
    quorum = facts.survey.config.journal_quorum
    for host, copies in Counter(info.host for info in counted).items():
        if len(facts.copies) > 1 and len(facts.copies) - copies < quorum:
            what = f"{host} has {copies} of {len(facts.copies)} journal copies, and an answer needs {quorum}"
            mend = by_hand(
                "start another copy on another host with --replaces ID: RUNBOOKS.md, Lost journal disk"
            )
            yield Finding("layout", "warning", f"{what}: if it goes, nothing is paid", mend)


def _replicas(state: ShardState) -> Iterator[Finding]:
    if state.primary is None:
        return
    host = host_of(state.primary.address)
    replicas = [node.address for node in state.nodes if node is not state.primary]
    if not replicas:
        what = (
            f"{state.shard.name} has no replica: while its primary is away, its partitions take no transfers"
        )
        mend = by_hand("start a Redis node on another host, and give it to the shard with add-replica")
        yield Finding("layout", "warning", what, mend)
    if replicas and all(host_of(address) == host for address in replicas):
        what = f"the primary of {state.shard.name} and all its replicas are on {host}: they go together"
        mend = by_hand(
            f"start a replica of {state.shard.name} on another host, and put it in: RUNBOOKS.md, Replace a dead node"
        )
        yield Finding("layout", "warning", what, mend)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
