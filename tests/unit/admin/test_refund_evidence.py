"""G2: `verify` compares what a refund says about its original with the original's entry."""

from pathlib import Path

import pytest
from unit.admin.made import MadeJournal, answer, txid

from wallet_engine.domain.memory import transfer_field

FIELD, OTHER = transfer_field("alice", txid(1)), transfer_field("alice", txid(2))


@pytest.fixture
def journal(tmp_path: Path) -> MadeJournal:
    """0.2.0 is alice's debit of 50 for bob in partition 1, which he received. 1.4.0 is bob's transfer of 30 to carl."""
    made = MadeJournal(tmp_path / "j", segment_bytes_max=2000)
    made.add(0, "o - alice - 0 USD", f"t {txid(9)} @bank alice 900 USD")
    made.add(0, f"d {txid(1)} alice bob 50 USD", f"d {txid(2)} alice bob 70 USD")
    made.add(1, "o - bob - 0 USD", "o - carl - 0 USD")
    made.add(1, "c 0.2 bob 0 50 USD", "c 0.2 bob 1 70 USD")
    made.add(0, "s 2 - - 0 -")
    made.add(1, f"t {txid(3)} bob carl 30 USD")
    for number in range(100, 130):
        made.add(number % 2, f"t {txid(number)} @bank {('alice', 'bob')[number % 2]} 1 USD")
    return made


def faults(journal: MadeJournal, status: int) -> list[str]:
    journal.close()
    found = answer("verify", "--offline", "--journal", journal.directory, status=status)["mismatches"]
    return [mismatch["journal"] for mismatch in found if mismatch["what"] == "refund"]


def refund(journal: MadeJournal, number: int, evidence: str, minor: int) -> None:
    """Add a whole refund from bob in partition 1 to the payer in partition 0."""
    journal.add(1, f"z {txid(number)} bob {evidence} {minor} USD")
    seq = journal.states[1].seq
    journal.add(0, f"c 1.{seq} {evidence.partition('|')[0]} 0 {minor} USD")
    journal.add(1, f"s {seq} - - 0 -")


def test_refunds_of_what_was_paid(journal: MadeJournal) -> None:
    refund(journal, 10, f"alice|{FIELD}|0.2.0|c|50|20", 20)
    refund(journal, 11, f"alice|{FIELD}|0.2.0|c|50|-", 30)
    journal.add(1, f"x {txid(12)} carl bob|{transfer_field('bob', txid(3))}|1.3.0|l|30|- 30 USD")
    assert faults(journal, 0) == []


@pytest.mark.parametrize(
    ("evidence", "minor", "said"),
    [
        (f"alice|{FIELD}|0.2.0|c|60|60", 60, "and it is"),  # more than it was
        (f"alice|{OTHER}|0.2.0|c|50|50", 50, "and it is"),  # its total is counted for another transfer
        (f"carl|{FIELD}|0.2.0|c|50|50", 50, "and it is"),  # for somebody else
        (f"alice|{FIELD}|0.2.0|c|50|50", 50, ""),
    ],
)
def test_evidence_that_is_not_so(journal: MadeJournal, evidence: str, minor: int, said: str) -> None:
    """The script believes the evidence, since it cannot see the other partition. `verify` can."""
    if evidence.startswith("carl"):
        journal.add(0, "o - carl - 0 USD")
    refund(journal, 10, evidence, minor)
    found = faults(journal, 1 if said else 0)
    assert len(found) == bool(said)
    assert all(said in each and "refund of 0.2.0" in each for each in found)


def test_one_original_under_two_names(journal: MadeJournal) -> None:
    """Two refunds, each within the total of its field, but together more than was paid."""
    refund(journal, 10, f"alice|{FIELD}|0.2.0|c|50|50", 50)
    refund(journal, 11, f"alice|{OTHER}|0.2.0|c|50|50", 50)
    found = faults(journal, 1)
    assert any("and it is" in each for each in found)
    assert any("100 USD have gone back of 0.2.0, which was 50" in each for each in found)
