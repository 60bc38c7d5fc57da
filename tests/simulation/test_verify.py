"""`verify` on the journals that seeds leave: it finds them sound, and finds money from nowhere that is added to them.

A test plants into `verify` what it once overlooked.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from simulation.cluster import Cluster
from simulation.profile import Profile
from simulation.run import run_through, stage
from support.added import add_entries

from wallet_engine.admin.proof import cluster as proof
from wallet_engine.admin.proof.cluster import Verdict, verify_offline

SEEDS = range(1, 9)
MINTED_MINOR = 100_000


@contextmanager
def journal_of(seed: int) -> Iterator[tuple[Path, Cluster]]:
    """The journal that the seed leaves on a copy that has all entries; refunds and groups among them."""
    with stage(seed, Profile.draw(seed)) as (cluster, callers):
        run_through(cluster, callers)
        states = cluster.auditor.state
        (copy, *_) = (
            journal
            for journal in cluster.journals
            if all(cluster.auditor.reached(journal.name, p) == s.seq for p, s in enumerate(states))
        )
        copy.kill()
        yield copy.directory, cluster


def test_what_seeds_leave_is_sound() -> None:
    for seed in SEEDS:
        with journal_of(seed) as (directory, cluster):
            verdict = verify_offline(directory)
            assert verdict.ok, (seed, verdict.mismatches)
            assert verdict.entries == sum(state.seq for state in cluster.auditor.state) > 20, seed
            assert not any(verdict.in_transit_minor.values()), seed


def looks_at_partitions_alone(*_: Any) -> list[Any]:
    """An old bug: `verify` checked that each partition's books sum to zero, and not the money between partitions."""
    return []


def without_debit(directory: Path, cluster: Cluster) -> None:
    """Add a credit without a debit."""
    states = cluster.auditor.state
    here = next(p for p, state in enumerate(states) if state.balances.get("USD"))
    there = (here + 1) % len(states)
    account = next(name for name in states[here].balances["USD"] if not name.startswith("@"))
    add_entries(directory, here, f"+ c {there}.{states[there].seq} {account} 0 {MINTED_MINOR} USD")


def judged(seed: int) -> Verdict:
    with journal_of(seed) as (directory, cluster):
        without_debit(directory, cluster)
        return verify_offline(directory)


def test_a_credit_without_a_debit_is_found() -> None:
    """No other check finds it: without this one, `verify` accepts money from nowhere."""
    for seed in SEEDS[:2]:
        verdict = judged(seed)
        assert any("there is no such debit" in str(each.journal) for each in verdict.mismatches), verdict
    with patch.object(proof, "_transit_mismatches", looks_at_partitions_alone):
        assert judged(1).ok
