"""Look-ups of old credits in the segments, only by a copy that has all entries."""

import asyncio
from pathlib import Path

import pytest

from wallet_engine.domain.entry import ZERO_NONCE, parse_header
from wallet_engine.journal import JournalWriter
from wallet_engine.journal import credits as credits_module
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.credits import CreditSearch, find_credits
from wallet_engine.journal.link_wire import FindCredits

#: Entries of partition 3: time (ms), outcomes, operations.
ENTRIES = [
    (1_000, "+", "c 1.7 ann 0 5 USD\n"),
    (2_000, "a+", "c 1.8 nobody 0 5 USD\nc 1.8 ann 11 5 USD\n"),
    (3_000, "=+", "c 1.8 nobody 0 5 USD\nd 1.8 ann far 1 USD\n"),
    (4_000, "+", "c 2.8 ann 0 5 USD\n"),
]


def nonce(seq: int) -> str:
    return f"{seq:016x}"


@pytest.fixture(params=[1 << 28, 300], ids=["one segment", "many segments"])
def journal(tmp_path: Path, request: pytest.FixtureRequest) -> JournalWriter:
    writer = JournalWriter(tmp_path, "j1", segment_bytes_max=request.param)
    for seq, (time_ms, outcomes, operations) in enumerate(ENTRIES, 1):
        before = nonce(seq - 1) if seq > 1 else ZERO_NONCE
        for partition in (3, 4):  # entries of partition 4 must not count
            text = f"{seq} {before} {nonce(seq)} 1 {time_ms} 1 {outcomes}\n{operations}".encode()
            payload = text if partition == 3 else text.replace(b"c 2.8", b"c 9.9")
            writer.append(partition, payload, parse_header(payload))
        writer.sync()
    return writer


@pytest.mark.parametrize(
    ("since_ms", "asked", "found"),
    [
        (0, [(1, 7, 0)], {(1, 7, 0): "+"}),
        (0, [(1, 8, 0), (1, 8, 11), (1, 8, 1)], {(1, 8, 0): "a", (1, 8, 11): "+"}),
        (0, [(9, 9, 0), (1, 9, 0), (8, 1, 0)], {}),
        (0, [], {}),
        (3_500, [(2, 8, 0)], {(2, 8, 0): "+"}),
    ],
)
def test_first_outcomes_are_found(
    journal: JournalWriter,
    since_ms: int,
    asked: list[tuple[int, int, int]],
    found: dict[tuple[int, int, int], str],
) -> None:
    assert find_credits(journal.directory, 3, since_ms, asked) == found


def test_a_credit_is_found_however_wrong_its_clock_was(tmp_path: Path) -> None:
    """G4: the debit's time is days after that of its credit. Entries before the credit in the files are skipped."""
    writer = JournalWriter(tmp_path, "j1", segment_bytes_max=300)
    seqs = {1: 0, 3: 0}

    def append(partition: int, time_ms: int, outcome: str, operation: str) -> None:
        seqs[partition] = seq = seqs[partition] + 1
        before = nonce(seq - 1) if seq > 1 else ZERO_NONCE
        payload = f"{seq} {before} {nonce(seq)} 1 {time_ms} 1 {outcome}\n{operation}\n".encode()
        writer.append(partition, payload, parse_header(payload))
        writer.sync()

    for number in range(9):
        append(3, 1_000 + number, "+", f"c 2.{number + 1} ann 0 5 USD")
    append(1, 900_000_000, "+", "d T1 bob ann 5 USD")
    append(3, 1_020, "+", "c 1.1 ann 0 5 USD")
    for number in range(9):
        append(3, 1_030 + number, "+", f"c 2.{number + 100} ann 0 5 USD")
    assert find_credits(tmp_path, 3, 900_000_000, [(1, 1, 0)]) == {(1, 1, 0): "+"}
    assert find_credits(tmp_path, 3, 900_000_000, [(2, 1, 0)]) == {}


def test_only_a_copy_with_the_entry_named_answers(
    journal: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise "not found" could mean "not here yet", and the credit would be made twice."""
    copy = JournalCopy(journal)
    copy.confirm([(3, 1)])
    search = CreditSearch(copy)
    monkeypatch.setattr(credits_module, "KNOWN_S_MAX", 0.05)

    def find(seq: int, text: str) -> object:
        return asyncio.run(search.find(FindCredits(1, 3, seq, text, 0, [(1, 7, 0)])))

    answer = find(4, nonce(4))
    assert answer is not None
    assert answer.credits == [(1, 7, 0, "+")]  # type: ignore[attr-defined]
    assert find(5, nonce(5)) is None
    assert find(4, nonce(5)) is None
    monkeypatch.setattr(credits_module, "SEARCHES_WAITING_MAX", 0)
    assert find(4, nonce(4)) is None


def test_g9_a_copy_that_does_not_know_yet_that_a_quorum_has_the_entry_answers_when_it_does(
    journal: JournalWriter,
) -> None:
    """It gave no answer, so the service asked again a minute later; under traffic that went on and on."""
    copy = JournalCopy(journal)
    copy.confirm([(3, 1)])
    quorum_seqs = iter([2, 3])
    search = CreditSearch(copy, lambda _: next(quorum_seqs, 4))
    found = asyncio.run(search.find(FindCredits(1, 3, 4, nonce(4), 0, [(2, 8, 0)])))
    assert found is not None
    assert found.credits == [(2, 8, 0, "+")]
