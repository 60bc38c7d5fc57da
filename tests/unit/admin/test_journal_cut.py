"""`journal cut`: entries without effect take the places of those that are cut out, in every copy the same."""

from pathlib import Path

import pytest
from unit.admin.made import MadeJournal, account_in, txid

from wallet_engine.admin.verbs.journal_cut import cut_out, last_to_cut
from wallet_engine.domain.entry import parse_entry
from wallet_engine.domain.errors import Outage
from wallet_engine.domain.oracle import apply_payload
from wallet_engine.domain.oracle_state import PartitionState
from wallet_engine.journal.reader import read
from wallet_engine.journal.writer import JournalWriter

ANN, BOB = account_in(0, 2), account_in(0, 2, 1)


def copy_of(directory: Path, debits: int) -> Path:
    """A journal copy with entries 1 and 2 of partition 0, debits after them, and two entries of partition 1."""
    made = MadeJournal(directory)
    made.add(0, f"o - {ANN} - 0 USD", f"o - {BOB} - 0 USD")
    made.add(0, f"t {txid(1)} @bank {ANN} 10000 USD")
    made.add(1, f"o - {BOB} - 0 USD")
    for number in range(debits):
        made.add(0, f"d {txid(2 + number)} {ANN} far 1 USD", rotate=number == 1)
    made.add(1, f"f - {BOB} freeze 0 -")
    made.close()
    return directory


def payloads(directory: Path, partition: int) -> list[bytes]:
    return [record.payload for record in read(directory, partitions={partition})]


def test_g1_what_is_debited_later_has_other_places(tmp_path: Path) -> None:
    """G1: a receiver that remembers the credit of a debit that was cut took a later debit in its place for paid."""
    journal, other = copy_of(tmp_path / "one", 4), copy_of(tmp_path / "two", 3)
    before, theirs = payloads(journal, 0), payloads(journal, 1)
    assert last_to_cut(journal, 0, 3) == 6
    kept = cut_out(journal, 0, 3)
    assert kept.read_bytes() == b"".join(before[2:])
    after = payloads(journal, 0)
    assert (after[:2], payloads(journal, 1)) == (before[:2], theirs)
    state = PartitionState()
    for payload in after:
        apply_payload(state, payload)
    assert (state.seq, state.window) == (6, 1)
    assert [parse_entry(payload).operations[0].kind for payload in after[2:]] == ["n"] * 4
    cut_out(other, 0, 3)
    assert payloads(other, 0) == after[:5]
    cut_out(journal, 0, 3)
    assert payloads(journal, 0) == after


def test_a_cut_that_was_interrupted_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, journal = copy_of(tmp_path / "one", 4), copy_of(tmp_path / "two", 4)
    cut_out(whole, 0, 3)

    def stopped(*_: object, **__: object) -> None:
        raise Outage("journal_unavailable", "stopped")

    with monkeypatch.context() as broken:
        broken.setattr(JournalWriter, "append", stopped)
        with pytest.raises(Outage):
            cut_out(journal, 0, 3)
    assert (len(payloads(journal, 0)), last_to_cut(journal, 0, 3)) == (2, 6)
    kept = cut_out(journal, 0, 3)
    assert kept.name == "orphaned-p0-3-6"
    assert payloads(journal, 0) == payloads(whole, 0)
    assert last_to_cut(journal, 0, 9) == 0
