"""`journal info` and `journal cat`, on a journal that the oracle decided."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.admin.made import MadeJournal, account_in, admin, answer, make_map, refusal, register_journal, txid

from wallet_engine.domain.ids import unpack_transaction_id
from wallet_engine.journal.segments import segment_path

ANN = account_in(0, 2)
BOB = account_in(0, 2, 1)
CAT = account_in(1, 2)
MAIN = "from wallet_engine.admin.cli import main; main(prog_name='wallet-admin')"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[MadeJournal]:
    directory = make_map(tmp_path / "map.json", 2)
    journal = MadeJournal(tmp_path / "journal")
    register_journal(directory, tmp_path / "journal")
    journal.add(0, f"o - {ANN} 500 0 USD", f"o - {BOB} - 0 USD")
    journal.add(1, f"o - {CAT} - 0 USD")
    journal.add(0, f"t {txid(1)} @bank {ANN} 10000 USD")
    journal.add(0, f"t {txid(2)} {ANN} {BOB} 1234 USD", f"d {txid(3)} {ANN} {CAT} 1 USD")
    journal.add(1, f"f - {CAT} freeze 0 -")
    journal.add(1, f"c 0.3 {CAT} 1 1 USD")
    journal.add(0, f"r {txid(3)} {ANN} 3.1.f 1 USD", "s 3 - - 0 -")
    yield journal
    journal.close()
    directory.close()


def flags(tmp_path: Path) -> list[str]:
    return ["--map-file", str(tmp_path / "map.json")]


def test_every_operation_is_told_in_words(made: MadeJournal, tmp_path: Path) -> None:
    three = unpack_transaction_id(txid(3))
    assert [line.strip() for line in admin("journal", "cat", *flags(tmp_path)).stdout.splitlines()] == [
        "2026-11-21T10:00:00.000Z  partition 0  seq 1",
        f"open {ANN} in USD, overdraft limit 5.00  [applied]",
        f"open {BOB} in USD  [applied]",
        "2026-11-21T10:00:01.000Z  partition 1  seq 1",
        f"open {CAT} in USD  [applied]",
        "2026-11-21T10:00:02.000Z  partition 0  seq 2",
        f"transfer 100.00 USD from @bank to {ANN}, id {unpack_transaction_id(txid(1))}  [applied]",
        "2026-11-21T10:00:03.000Z  partition 0  seq 3",
        f"transfer 12.34 USD from {ANN} to {BOB}, id {unpack_transaction_id(txid(2))}  [applied]",
        f"debit 0.01 USD from {ANN} for {CAT}, id {three}  [applied]",
        "2026-11-21T10:00:04.000Z  partition 1  seq 2",
        f"freeze {CAT}  [applied]",
        "2026-11-21T10:00:05.000Z  partition 1  seq 3",
        f"credit 0.01 USD to {CAT}, for operation 1 of entry 3 of partition 0  [account_frozen]",
        "2026-11-21T10:00:06.000Z  partition 0  seq 4",
        f"refund 0.01 USD to {ANN}, id {three}, operation 1 of entry 3: account_frozen  [applied]",
        "settle entry 3  [applied]",
    ]


@pytest.mark.parametrize(
    ("words", "seqs"),
    [
        ((), [(0, 1), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3), (0, 4)]),
        (("--partition", "1"), [(1, 1), (1, 2), (1, 3)]),
        (("--partition", "0", "--since", "3"), [(0, 3), (0, 4)]),
        (("--since", "2026-11-21T10:00:04Z"), [(1, 2), (1, 3), (0, 4)]),
        (("--account", BOB), [(0, 1), (0, 3)]),
        (("--account", CAT, "--since", "2"), [(1, 2), (1, 3)]),
        (("--account", "@bank"), [(0, 2)]),
        (("--account", "nobody"), []),
    ],
)
def test_cat_prints_what_was_asked_for(
    made: MadeJournal, tmp_path: Path, words: tuple[str, ...], seqs: list[tuple[int, int]]
) -> None:
    found = answer("journal", "cat", *flags(tmp_path), *words)["entries"]
    assert [(entry["partition"], entry["seq"]) for entry in found] == seqs


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (("--partition", "2"), "there is no partition 2: they are 0 to 1", 1),
        (("--partition", "1", "--account", ANN), f"{ANN} is in partition 0, not 1", 1),
        (("--since", "3"), "add --partition or --account", 2),
        (("--since", "tomorrow"), "neither a sequence number", 2),
        (("--account", "a b"), "ACCOUNT must be 1-64 characters", 2),
        (("--journal", "/tmp"), "is not a journal directory", 1),
    ],
)
def test_cat_refuses(
    made: MadeJournal, tmp_path: Path, words: tuple[str, ...], said: str, status: int
) -> None:
    assert said in refusal(admin("journal", "cat", *flags(tmp_path), *words), status)


def test_where_there_is_nothing_it_says_so(tmp_path: Path, made: MadeJournal) -> None:
    assert admin("journal", "cat", *flags(tmp_path), "--since", "2999-01-01").stdout == "no such entry\n"


def test_an_endless_document_is_a_usage_error(tmp_path: Path) -> None:
    assert "--follow has no end" in refusal(admin("journal", "cat", "--follow", "--json"), 2)


def test_damage_half_way_is_said_in_the_one_document(made: MadeJournal, tmp_path: Path) -> None:
    path = segment_path(made.directory, 1)
    whole = bytearray(path.read_bytes())
    whole[-300] ^= 1
    path.write_bytes(whole)
    result = admin("journal", "cat", *flags(tmp_path), "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert 0 < len(document["entries"]) < 7
    assert path.name in document["error"]


def test_follow_prints_what_comes(made: MadeJournal, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", MAIN, "journal", "cat", "--account", CAT, "--follow"]
    with subprocess.Popen([*argv, *flags(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(6)]
        assert "freeze" in lines[3]
        made.add(1, f"f - {CAT} unfreeze 0 -")
        assert "seq 4" in process.stdout.readline()
        assert "unfreeze" in process.stdout.readline()
        process.terminate()


def test_info_says_how_large_and_since_when(made: MadeJournal, tmp_path: Path) -> None:
    document = answer("journal", "info", *flags(tmp_path), "--journal", made.directory)
    (copy,) = document["copies"]
    assert (copy["journal_id"], copy["reachable"], copy["lag_entries"]) == ("j1", False, None)
    assert copy["files"] == document["directory"]
    assert copy["files"] == {
        "directory": str(made.directory),
        "segments": 1,
        "bytes": segment_path(made.directory, 1).stat().st_size,
        "only_archived": 0,
        "since": "2026-11-21T10:00:00.000Z",
    }
    assert "does not answer" in admin("journal", "info", *flags(tmp_path)).stdout


def test_info_names_a_copy_that_holds_entries_and_does_not_run(tmp_path: Path) -> None:
    directory = make_map(tmp_path / "map.json", 2)
    directory.replace_members(directory.members(), ("j7",))
    directory.close()
    assert answer("journal", "info", *flags(tmp_path))["not_running"] == ["j7"]


def test_info_and_backup_name_a_copy_that_runs_and_does_not_count(tmp_path: Path) -> None:
    directory = make_map(tmp_path / "map.json", 2)
    register_journal(directory, tmp_path / "journal")
    assert answer("journal", "info", *flags(tmp_path))["copies"][0]["counts"]
    assert answer("backup", tmp_path / "counted.json", *flags(tmp_path))["not_counted"] == []
    directory.replace_members(directory.members(), ("j2", "j3"))
    assert not answer("journal", "info", *flags(tmp_path))["copies"][0]["counts"]
    assert "j1 does not count" in admin("journal", "info", *flags(tmp_path)).stdout
    document = answer("backup", tmp_path / "tree.json", *flags(tmp_path))
    assert (document["journal_copies"], document["not_counted"]) == (["j2", "j3"], ["j1"])
    assert "not j1, which run" in admin("backup", tmp_path / "again.json", *flags(tmp_path)).stdout
    directory.close()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("jour", "journal"), ("journal c", "cat"), ("journal cat --fol", "--follow"), ("--json stat", "status")],
)
def test_a_shell_completes_verbs_and_flags(typed: str, offered: str) -> None:
    words = f"wallet-admin {typed}"
    environment = {"_WALLET_ADMIN_COMPLETE": "bash_complete", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split()) - 1)
    result = subprocess.run(
        [sys.executable, "-c", MAIN], env=environment, capture_output=True, text=True, check=False
    )
    assert f"plain,{offered}" in result.stdout.splitlines(), result


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_names_the_program(shell: str) -> None:
    result = admin("completion", shell)
    assert result.exit_code == 0
    assert "_WALLET_ADMIN_COMPLETE" in result.stdout
    assert "wallet-admin" in result.stdout
