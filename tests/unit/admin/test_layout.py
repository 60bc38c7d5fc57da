"""Placement on hosts: what the loss of a host takes, switchovers that spread primaries, and grouping of findings."""

from dataclasses import replace

import pytest
from unit.admin.test_findings import healthy

from wallet_engine.admin.diagnosis.examination import Facts
from wallet_engine.admin.diagnosis.finding import Finding
from wallet_engine.admin.diagnosis.grouping import grouped
from wallet_engine.admin.diagnosis.layout import layout
from wallet_engine.admin.diagnosis.mends import Mend, by_hand, wallet_admin
from wallet_engine.admin.moving.primaries import Switch, even_out
from wallet_engine.admin.moving.runs import Pace
from wallet_engine.admin.nodes import NodeState
from wallet_engine.admin.survey import JournalState, ShardState
from wallet_engine.redis_store.topology import NodeView
from wallet_engine.routing.model import JournalInfo, Shard


def node(address: str, *, primary: bool = False) -> NodeState:
    return NodeState(address, "", NodeView(address, address, primary, 1, ()), used_memory_bytes=1)


def laid_out(primaries: list[str], replicas: list[str], copies: list[str], quorum: int = 2) -> Facts:
    """Facts with one shard for each host in `primaries`, its replica on the host at the same index of `replicas`.

    `copies`: hosts with a journal copy.
    """
    shards = []
    for number, (first, second) in enumerate(zip(primaries, replicas, strict=True), 1):
        nodes = (node(f"{first}:{number}", primary=True), node(f"{second}:{10 + number}"))
        addresses = tuple(each.address for each in nodes)
        shards.append(ShardState(Shard(f"s{number}", addresses), nodes[0], nodes))
    journals = tuple(
        JournalState(JournalInfo(f"j{n}", f"{host}:7", "/j", 1, host), {}, 0, ())
        for n, host in enumerate(copies)
    )
    facts = healthy()
    config = replace(facts.survey.config, journal_quorum=quorum)
    found = replace(facts.survey, shards=tuple(shards), journals=journals, config=config)
    return replace(facts, survey=found, copies=frozenset(f"j{n}" for n in range(len(copies))))


def said(facts: Facts) -> list[str]:
    findings = list(layout(facts))
    assert not any(finding.harmful for finding in findings), "payments go on: a cluster with it is healthy"
    return [finding.what for finding in findings]


def test_three_hosts_as_they_should_be() -> None:
    assert said(laid_out(["a", "b", "c"], ["b", "c", "a"], ["a", "b", "c"])) == []
    assert said(laid_out(["a"], ["b"], ["a"], quorum=1)) == [], "one of each is not to be spread"


def test_a_host_with_most_primaries() -> None:
    (what,) = said(laid_out(["a", "a", "c"], ["b", "c", "a"], ["a", "b", "c"]))
    assert what.startswith("a has 2 of 3 primaries")


def test_a_host_with_most_copies() -> None:
    (what,) = said(laid_out(["a", "b", "c"], ["b", "c", "a"], ["b", "b", "c"]))
    assert what == "b has 2 of 3 journal copies, and an answer needs 2: if it goes, nothing is paid"


def test_a_primary_beside_its_only_replica() -> None:
    (what,) = said(laid_out(["a", "b", "c"], ["a", "c", "b"], ["a", "b", "c"]))
    assert what == "the primary of s1 and all its replicas are on a: they go together"


def test_nothing_is_said_of_a_cluster_on_loopback() -> None:
    for host in ("127.0.0.1", "localhost", "[::1]"):
        assert said(laid_out([host] * 3, [host] * 3, ["here"] * 3)) == []


def test_primaries_are_evened_out_with_few_switches() -> None:
    hosts = {f"{host}{shard}": host for host in "abc" for shard in "123"}
    primaries = {"s1": "a1", "s2": "a2", "s3": "a3"}
    replicas = {"s1": ["b1"], "s2": ["b2", "c2"], "s3": ["c3"]}
    switches = even_out(primaries, replicas, hosts)
    now = primaries | {switch.shard: switch.new for switch in switches}
    assert len(switches) == 2
    assert sorted(hosts[address] for address in now.values()) == ["a", "b", "c"]
    assert even_out(now, {"s1": ["a1"], "s2": ["a2"], "s3": ["a3"]}, hosts) == []
    assert even_out({"s1": "a1", "s2": "a2"}, {"s1": ["b1"]}, {"a1": "a", "a2": "a", "b1": "b"}) == [
        Switch("s1", "a1", "b1")
    ]


def test_what_is_alike_is_one_line() -> None:
    frozen = [
        Finding("partitions", "error", f"partition {p} on s{1 + p // 32} is frozen", by_hand("see the log"))
        for p in range(64)
    ]
    assert [group.what for group in grouped(frozen)] == [
        "partition 0 on s1 is frozen; the same of partitions 1-31",
        "partition 32 on s2 is frozen; the same of partitions 33-63",
    ]
    stopped = [
        Finding("partitions", "error", f"partition {p} is stopped", Mend(wallet_admin("rebuild", p)))
        for p in (3, 5)
    ]
    (group,) = grouped(stopped)
    assert (group.what, group.mend) == (
        "partition 3 is stopped; the same of partition 5",
        "wallet-admin rebuild 3  # then the same of the others",
    )
    nodes = [
        Finding("memory", "note", f"10.0.0.{n}:6379 has no maxmemory", by_hand("set it")) for n in (1, 2, 3)
    ]
    (group,) = grouped(nodes)
    assert group.what == "10.0.0.1:6379 has no maxmemory; the same of 10.0.0.2:6379, 10.0.0.3:6379"


def test_nodes_that_are_mended_alike_are_one_line() -> None:
    settings = [
        Finding(
            "settings",
            "warning",
            f"{host}:{port} has a setting",
            Mend(f"redis-cli -h {bare} -p {port} CONFIG SET x no", "and in its redis.conf"),
        )
        for host, bare, port in (("10.0.0.1", "10.0.0.1", 6379), ("[fd00::1]", "fd00::1", 6380))
    ]
    (group,) = grouped(settings)
    assert group.what == "10.0.0.1:6379 has a setting; the same of [fd00::1]:6380"
    assert group.mend == (
        "redis-cli -h 10.0.0.1 -p 6379 CONFIG SET x no  # and in its redis.conf; then the same of the others"
    )


def test_what_differs_stays_apart() -> None:
    findings = [
        Finding("memory", "warning", "10.0.0.1:6379 uses 71% of its maxmemory", by_hand("more")),
        Finding("memory", "error", "10.0.0.2:6379 uses 71% of its maxmemory", by_hand("more")),
        Finding("memory", "warning", "10.0.0.3:6379 uses 72% of its maxmemory", by_hand("more")),
    ]
    assert [group.finding for group in grouped(findings)] == findings


def test_a_throttled_move_sleeps_as_long_as_that_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, slept_s = [100.0], []

    def sleep(seconds: float) -> None:
        slept_s.append(seconds)
        now_s[0] += seconds

    monkeypatch.setattr("wallet_engine.admin.moving.runs.time.monotonic", lambda: now_s[0])
    monkeypatch.setattr("wallet_engine.admin.moving.runs.time.sleep", sleep)
    pace = Pace(1000)
    for fields in (500, 250):
        pace.passed(fields)
    now_s[0] += 10.0
    pace.passed(100)
    assert slept_s == pytest.approx([0.5, 0.25, 0.1])
    Pace(None).passed(10**9)
    assert len(slept_s) == 3
