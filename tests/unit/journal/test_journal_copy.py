"""A copy receipts only entries that it has, and only in the epoch that is in force."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.journal.samples import entry, nonce

from wallet_engine.journal import JournalWriter
from wallet_engine.journal.chains import RECENT_ENTRIES_PER_PARTITION
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.errors import Fenced

P = 3


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[JournalCopy]:
    """A copy for which epoch 1 of the partition is in force, with entry 1 receipted."""
    writer = JournalWriter(tmp_path / "j", "j1")
    found = JournalCopy(writer)
    assert found.confirm([(P, 1)]) == []
    assert taken(found, 1)
    yield found
    writer.close()


def taken(copy: JournalCopy, seq: int, epoch: int = 1) -> bool:
    """Take an entry from the stream, as the drain does. Returns whether it may be receipted now."""
    payload, header = entry(P, seq, epoch=epoch)
    copy.writer.append(P, payload, header)
    copy.writer.sync()
    return copy.receiptable(P, header)


def fetched(copy: JournalCopy, seq: int, epoch: int = 1) -> None:
    """Take an entry from another copy."""
    payload, header = entry(P, seq, epoch=epoch)
    copy.writer.append(P, payload, header, bound=False)
    copy.writer.sync()
    copy.withhold(P, header)


def said(copy: JournalCopy) -> set[int]:
    """The entries that a service learns of: from the greeting, and by asking."""
    asked = {seq for seq in range(1, 10) if copy.remembers((P, seq, nonce(P, seq)))}
    assert {at.seq for at in copy.positions().values()} <= asked
    return asked


def test_g5_nothing_is_receipted_between_a_promise_and_the_epoch_that_comes_of_it(copy: JournalCopy) -> None:
    """Otherwise a receipt of the old epoch and one given during the preparation could together be a quorum."""
    assert said(copy) == {1}
    (standing,) = copy.promise([(P, 2)])
    assert (standing.seq, standing.promised) == (1, 2)
    with pytest.raises(Fenced):
        taken(copy, 2)
    fetched(copy, 2)
    assert (said(copy), copy.positions()) == (set(), {})
    assert copy.confirm([(P, 2)]) == [(P, nonce(P, 2), 2)]
    assert said(copy) == {1, 2}
    assert taken(copy, 3, epoch=2)


def test_g5_entries_of_a_new_epoch_wait_until_it_is_confirmed(copy: JournalCopy) -> None:
    """A copy that was not asked gets them from the stream. It does not know yet with which entry the epoch began."""
    assert not taken(copy, 2, epoch=2)
    assert not taken(copy, 3, epoch=2)
    # It told services that asked for them, as after a move: a move raises the epoch without a promise.
    assert (said(copy), copy.positions()) == ({1}, {})
    asks = [(P, seq, nonce(P, seq)) for seq in (1, 2, 3)]
    assert asyncio.run(copy.receipted(asks)) == [True, False, False]
    assert copy.confirm([(P, 1)]) == []
    assert copy.confirm([(P, 2)]) == [(P, nonce(P, 2), 2), (P, nonce(P, 3), 3)]
    assert copy.confirm([(P, 2)]) == []
    assert said(copy) == {1, 2, 3}
    assert asyncio.run(copy.receipted(asks)) == [True, True, True]


def test_what_a_returning_copy_fetches_in_the_epoch_in_force_is_receipted(copy: JournalCopy) -> None:
    """The epoch was confirmed before, and nobody will confirm it again."""
    fetched(copy, 2)
    fetched(copy, 3)
    assert copy.confirm([(P, 1)]) == [(P, nonce(P, 2), 2), (P, nonce(P, 3), 3)]
    assert copy.confirm([(P, 1)]) == []
    assert said(copy) == {1, 2, 3}


def test_g10_no_more_is_withheld_than_is_remembered(copy: JournalCopy) -> None:
    """A copy that takes over a million entries keeps only the last receipts. Services ask for the others."""
    last = RECENT_ENTRIES_PER_PARTITION + 300
    for seq in range(2, last + 1):
        payload, header = entry(P, seq)
        copy.writer.append(P, payload, header, bound=False)
        copy.withhold(P, header)
    copy.writer.sync()
    receipts = copy.confirm([(P, 1)])
    assert [seq for _, _, seq in receipts] == list(range(last - RECENT_ENTRIES_PER_PARTITION + 1, last + 1))
    assert copy.remembers((P, 2, nonce(P, 2))) is None
    asks = [(P, 2, nonce(P, 2)), (P, 3, nonce(P, 2)), (P, last, nonce(P, last)), (P + 1, 2, nonce(P, 2))]
    assert asyncio.run(copy.receipted(asks)) == [True, False, True, False]


def test_g5_what_was_looked_up_before_a_promise_is_not_receipted_after_it(
    copy: JournalCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look-up takes time, and the coming epoch may begin without the entry."""

    async def held(asks: object) -> list[bool]:
        copy.promise([(P, 2)])
        copy.confirm([(P, 2)])
        return [True]

    monkeypatch.setattr(copy, "held", held)
    assert asyncio.run(copy.receipted([(P, 1, nonce(P, 1))])) == [False]


def test_g5_an_epoch_that_was_overtaken_is_not_confirmed(copy: JournalCopy) -> None:
    """Its certificate may be seen after a newer promise."""
    fetched(copy, 2)
    copy.promise([(P, 3)])
    assert copy.confirm([(P, 2)]) == []
    assert said(copy) == set()
    assert copy.confirm([(P, 3)]) == [(P, nonce(P, 2), 2)]


def test_g7_orphans_are_never_receipted(copy: JournalCopy) -> None:
    """Orphans: entries that waited for an epoch, and were removed because it began without them."""
    assert not taken(copy, 2, epoch=2)
    copy.promise([(P, 3)])
    copy.writer.begin_rewrite()
    assert copy.writer.rewrite({P: 1})
    assert copy.confirm([(P, 3)]) == []
    assert said(copy) == {1}


def test_a_promise_holds_after_a_restart(copy: JournalCopy, tmp_path: Path) -> None:
    copy.promise([(P, 4)])
    copy.writer.close()
    writer = JournalWriter(tmp_path / "j", "j1")
    again = JournalCopy(writer)
    assert again.confirm([(P, 3)]) == []
    assert said(again) == set()
    (standing,) = again.promise([(P, 4)])
    assert standing.promised > 4  # to another candidate
    writer.close()
