"""The segments that may leave the disk: one row for each reason to keep one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.journal.samples import write

from wallet_engine.app.archiver import note_archived
from wallet_engine.domain.errors import ConfigError
from wallet_engine.journal.archive import Archived
from wallet_engine.journal.reader import ends_of
from wallet_engine.journal.segments import numbers_on_disk, segment_path
from wallet_engine.recovery.pruning import Facts, Keep, parse_keep, plan_pruning

NOTHING_KEPT = Keep("0s", ms=0)
NOW_MS = 1_700_000_100_000  # the time of sample entry `seq` is 1_700_000_000_000 + seq


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal of six segments, five of them sealed. Partition 2 has entries only in the first."""
    write(tmp_path, {1: 60, 2: 5}, segment_bytes_max=1700)
    assert numbers_on_disk(tmp_path) == [1, 2, 3, 4, 5, 6]
    note_archived(tmp_path, Archived(5, 0))
    return tmp_path


@pytest.fixture
def facts(journal: Path) -> Facts:
    """Facts in which no segment is needed."""
    ends = ends_of(journal)
    return Facts(ends, dict(ends), {"history": dict(ends)}, {"j2": dict(ends)})


def test_all_that_is_sealed_may_go(journal: Path, facts: Facts) -> None:
    plan = plan_pruning(journal, NOTHING_KEPT, facts, NOW_MS)
    sizes = [segment_path(journal, number).stat().st_size for number in range(1, 6)]
    assert (plan.numbers, plan.bytes, plan.held) == ((1, 2, 3, 4, 5), sum(sizes), "")


@pytest.mark.parametrize(
    ("changes", "numbers", "held"),
    [
        (
            {"final": {1: 60}},
            (),
            "00000001.wal: its last entry of partition 2 is 5, and no quorum is known to have more than 0",
        ),
        ({"final": {1: 20, 2: 5}}, (1,), "and no quorum is known to have more than 20"),
        ({"copies": {"j2": None}}, (), "and journal copy j2 does not answer: start it, or replace it"),
        ({"copies": {"j2": {1: 60, 2: 4}}}, (), "partition 2 is 5, and journal copy j2 has 4"),
        ({"copies": {"j2": {1: 30, 2: 5}}}, (1, 2), "and journal copy j2 has 30"),
        ({"copies": {}}, (1, 2, 3, 4, 5), ""),
        ({"snapshots": {1: 60}}, (), "there is no good snapshot of the partition: wallet-admin snapshot"),
        ({"snapshots": {1: 30, 2: 5}}, (1, 2), "newest good snapshot is of entry 30: wallet-admin snapshot"),
        ({"followers": {}}, (1, 2, 3, 4, 5), ""),
        ({"followers": {"history": {1: 60}}}, (), "partition 2 is 5, and follower history has taken 0"),
        ({"followers": {"a": {1: 60, 2: 5}, "b": {1: 30, 2: 5}}}, (1, 2), "and follower b has taken 30"),
    ],
)
def test_who_needs_a_segment_holds_it_back(
    journal: Path, facts: Facts, changes: Mapping[str, Any], numbers: tuple[int, ...], held: str
) -> None:
    plan = plan_pruning(journal, NOTHING_KEPT, replace(facts, **changes), NOW_MS)
    assert plan.numbers == numbers
    assert plan.held.endswith(held)
    assert bool(plan.held) == bool(held)


def test_what_is_not_archived_stays(journal: Path, facts: Facts) -> None:
    note_archived(journal, Archived(2, 0))
    plan = plan_pruning(journal, NOTHING_KEPT, facts, NOW_MS)
    assert (plan.numbers, plan.held) == ((1, 2), "00000003.wal is not archived yet")


def test_what_was_written_anew_since_counts_as_not_archived(journal: Path, facts: Facts) -> None:
    (journal / "rewrites").write_text("00000003\n")
    assert plan_pruning(journal, NOTHING_KEPT, facts, NOW_MS).held == "00000003.wal is not archived yet"


def test_what_is_to_be_kept_is_no_matter_of_who_needs_it(journal: Path, facts: Facts) -> None:
    sizes = {number: segment_path(journal, number).stat().st_size for number in range(1, 7)}
    last_two = sizes[5] + sizes[6]
    for kept_bytes, numbers in ((last_two, (1, 2, 3, 4)), (last_two + 1, (1, 2, 3)), (10**9, ())):
        plan = plan_pruning(journal, Keep("", bytes=kept_bytes), facts, NOW_MS)
        assert (plan.numbers, plan.held) == (numbers, "")
    none = replace(facts, snapshots={})
    assert plan_pruning(journal, Keep("", bytes=10**9), none, NOW_MS).held == ""
    newest_ms = 1_700_000_000_000 + 60
    assert plan_pruning(journal, Keep("", ms=1000), facts, newest_ms).numbers == ()
    by_age = plan_pruning(journal, Keep("", ms=30), facts, newest_ms).numbers
    assert by_age == (1, 2)


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        ("7d", Keep("7d", ms=7 * 86_400_000)),
        ("30m", Keep("30m", ms=1_800_000)),
        ("500MB", Keep("500MB", bytes=500_000_000)),
        ("64GiB", Keep("64GiB", bytes=64 << 30)),
        ("1TB", Keep("1TB", bytes=10**12)),
        ("200000000000", Keep("200000000000", bytes=200_000_000_000)),
        ("0B", Keep("0B", bytes=0)),
    ],
)
def test_a_duration_or_a_size(text: str, keep: Keep) -> None:
    assert parse_keep(text) == keep


@pytest.mark.parametrize("text", ["", "d", "7 d", "-1d", "7w", "10gb", "1.5GB", "1e3MB"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is neither a duration such as 7d"):
        parse_keep(text)
