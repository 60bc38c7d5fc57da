"""`wallet-admin verify --offline`: checks the journal alone. G2, G6, G7."""

import random
from pathlib import Path

import pytest
from unit.admin.made import (
    START_MS,
    MadeJournal,
    admin,
    answer,
    make_map,
    payload_of,
    refusal,
    register_journal,
    txid,
)

from wallet_engine.domain.entry import parse_header


@pytest.fixture
def journal(tmp_path: Path) -> MadeJournal:
    """Three partitions over several segments, with one debit that is not credited yet."""
    made = MadeJournal(tmp_path / "j", segment_bytes_max=2000)
    numbers = random.Random(1)
    for partition in range(3):
        made.add(partition, "o - alice - 0 USD", "o - alice - 0 EUR", "o - bob - 0 USD")
    for number in range(60):
        amount = numbers.randint(1, 10_000)
        made.add(number % 3, f"t {txid(number)} @bank alice {amount} USD")
        made.add(number % 3, f"t {txid(100 + number)} alice bob {amount // 2} USD")
    made.add(1, f"d {txid(999)} bob far 7 USD")
    return made


def verify(path: Path, status: int = 0) -> dict[str, object]:
    return answer("verify", "--offline", "--journal", path, status=status)


def test_a_whole_journal(journal: MadeJournal, tmp_path: Path) -> None:
    """Verification needs only the directory. It also works while the journal is open for writing."""
    assert verify(journal.directory) == {
        "ok": True,
        "offline": True,
        "partitions": 3,
        "entries": 124,
        "accounts": 6,
        "open_entries": 1,
        "mismatches": [],
        "mismatches_total": 0,
        "in_transit": {"EUR": "0.00", "USD": "0.07"},
        "journal": {"journal_id": None, "directory": str(journal.directory)},
    }
    with_map = make_map(tmp_path / "map.json", 4)
    register_journal(with_map, journal.directory)
    document = answer("verify", "--offline", "--map-file", tmp_path / "map.json")
    assert document["journal"] == {"journal_id": "j1", "directory": str(journal.directory)}
    with_map.close()
    journal.close()


def test_people_see_totals(journal: MadeJournal) -> None:
    journal.close()
    result = admin("verify", "--offline", "--journal", journal.directory)
    assert result.exit_code == 0
    assert "0.07 USD" in result.stdout
    assert "ok: the journal is whole" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("segment", ["00000001.wal", "00000004.wal"])
def test_a_flipped_bit_is_named_with_file_and_offset(journal: MadeJournal, segment: str) -> None:
    journal.close()
    path = journal.directory / segment
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    document = verify(journal.directory, 1)
    assert not document["ok"]
    (mismatch,) = document["mismatches"]  # type: ignore[misc]
    assert mismatch["partition"] is None
    assert mismatch["what"] == "journal"
    assert f"{segment} at offset " in mismatch["journal"]
    result = admin("verify", "--offline", "--journal", journal.directory)
    assert result.exit_code == 1
    assert "NOT OK: 1 mismatches" in result.stdout


def test_a_lost_segment(journal: MadeJournal) -> None:
    journal.close()
    (journal.directory / "00000003.wal").unlink()
    assert "00000003.wal" in str(verify(journal.directory, 1)["mismatches"])


@pytest.mark.parametrize(
    ("line", "outcomes", "said"),
    [
        ("t {} alice bob 99999999 USD\n", "+", "must come out as 'i', recorded is '+'"),
        ("t {} @bank alice 1 USD\n", "i", "must come out as '+', recorded is 'i'"),
        ("o - alice - 0 USD\n", "=", "no operation has an effect"),
        ("x y z\n", "+", "not an operation"),
    ],
)
def test_an_entry_with_right_hashes_that_did_not_happen(
    journal: MadeJournal, line: str, outcomes: str, said: str
) -> None:
    """An attacker who can write the file can compute valid hashes, but cannot make false outcomes valid."""
    state = journal.states[2]
    payload = payload_of(state, "f" * 16, START_MS + 10**6, state.window, outcomes, line.format(txid(5000)))
    journal.append_anything(2, payload)
    header = parse_header(payload)
    journal.states[2].seq, journal.states[2].nonce = header.seq, header.nonce
    journal.add(0, f"t {txid(6000)} @bank alice 1 USD")
    journal.close()
    document = verify(journal.directory, 1)
    (mismatch,) = document["mismatches"]  # type: ignore[misc]
    assert (mismatch["partition"], mismatch["what"]) == (2, "journal")
    assert said in mismatch["journal"]
    assert document["entries"] == 125, "the other partitions are folded to their end"


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (("--offline", "--journal", "{tmp}/none"), "is not a journal directory", 1),
        (("--offline", "--journal", "{tmp}"), "is not a journal directory", 1),
        (("--offline",), "give either --zookeeper host:port,… or --map-file FILE", 2),
        ((), "give either --zookeeper host:port,… or --map-file FILE", 2),
        (("--map-file", "{tmp}/map.json"), "there is no initialised cluster, run wallet-admin init", 1),
        (("--map-file", "{tmp}/a.json", "--zookeeper", "h:1"), "give either --zookeeper", 2),
        (("--map-file", "{tmp}/none/a/map.json"), "run wallet-admin init", 1),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: tuple[str, ...], said: str, status: int) -> None:
    result = admin("verify", *(word.format(tmp=tmp_path) for word in words))
    assert said in refusal(result, status)


def test_without_redis_the_way_out_is_named(
    journal: MadeJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wallet_engine.admin.proof.cluster.PRIMARY_WAIT_S_MAX", 0.3)
    make_map(tmp_path / "map.json", 4).close()
    said = refusal(admin("verify", "--map-file", tmp_path / "map.json", "--journal", journal.directory))
    assert said.startswith("shard s1: no primary answers at 127.0.0.1:1: mend that (see wallet-admin status)")
    assert said.endswith("check the journal alone with --offline")
    journal.close()
