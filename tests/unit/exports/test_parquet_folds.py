"""Folds of the sink `parquet:`: which one a process starts from, and which ones are kept."""

from pathlib import Path

import pytest
from support.folds import at, book

from wallet_engine.exports.parquet_folds import FOLDER, ParquetFolds
from wallet_engine.journal.feed import FeedPosition


@pytest.fixture
def folds(tmp_path: Path) -> ParquetFolds:
    made = ParquetFolds(tmp_path)
    made.make()
    return made


def loaded(folds: ParquetFolds, told: int) -> tuple[FeedPosition, int] | None:
    """Where partition 3 starts, and alice's money there."""
    start = folds.load(3, at(told))
    return None if start is None else (start.folded, start.book.standings["alice", "USD"].balance)


def test_a_start_is_the_newest_fold_that_is_not_beyond_the_files(folds: ParquetFolds) -> None:
    for seq in (10, 20, 30):
        folds.save(3, at(seq), book(seq), 20)
    assert loaded(folds, 25) == (at(20), 20)
    assert loaded(folds, 30) == (at(30), 30)
    assert loaded(folds, 9) is None
    assert folds.load(4, at(30)) is None


def test_the_newest_usable_one_is_kept_and_two_that_wait(folds: ParquetFolds) -> None:
    for seq in (10, 20, 30, 40, 50):
        folds.save(3, at(seq), book(seq), 20)
    assert {p: sorted(seqs) for p, seqs in folds.seqs().items()} == {3: [20, 40, 50]}


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: b"x" * len(data)])
def test_one_that_is_damaged_is_removed_and_the_one_before_it_used(
    folds: ParquetFolds, tmp_path: Path, damage: object
) -> None:
    folds.save(3, at(10), book(10), 0)
    folds.save(3, at(20), book(20), 0)
    (newest,) = (tmp_path / FOLDER).glob("0003-*20")
    assert callable(damage)
    newest.write_bytes(damage(newest.read_bytes()))
    assert loaded(folds, 20) == (at(10), 10)
    assert folds.seqs() == {3: [10]}
