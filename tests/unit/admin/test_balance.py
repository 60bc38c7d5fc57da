"""G6: `wallet-admin balance` at any past sequence number or instant, to the cent."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.owned import owned
from unit.admin.made import (
    MadeJournal,
    account_in,
    admin,
    answer,
    answer_as_copy,
    make_map,
    refusal,
    register_journal,
    txid,
)

ALICE, BOB = account_in(0, 2), account_in(0, 2, 1)
CAROL = account_in(1, 2)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Path, MadeJournal]]:
    """Two partitions. 0: opened at :00, funded at :01, paid at :03, debited at :04. 1: funded at :02."""
    directory = make_map(tmp_path / "map.json", 2)
    journal = MadeJournal(tmp_path / "j")
    journal.add(0, f"o - {ALICE} - 0 USD", f"o - {BOB} - 0 USD")
    journal.add(0, f"t {txid(1)} @bank {ALICE} 10000 USD")
    journal.add(1, f"o - {CAROL} - 0 USD", f"o - {CAROL} - 0 JPY", f"t {txid(2)} @bank {CAROL} 5 JPY")
    journal.add(0, f"t {txid(3)} {ALICE} {BOB} 1234 USD")
    journal.add(0, f"d {txid(4)} {ALICE} {CAROL} 66 USD")
    register_journal(directory, journal.directory)
    yield tmp_path / "map.json", journal
    journal.close()
    directory.close()


@pytest.mark.parametrize(
    ("words", "balance", "partition", "seq", "time"),
    [
        ((ALICE, "USD"), "87.00", 0, 4, "2026-11-21T10:00:04.000Z"),
        ((ALICE, "USD", "--at", "1"), "0.00", 0, 1, "2026-11-21T10:00:00.000Z"),
        ((ALICE, "USD", "--at", "2"), "100.00", 0, 2, "2026-11-21T10:00:01.000Z"),
        ((ALICE, "USD", "--at", "3"), "87.66", 0, 3, "2026-11-21T10:00:03.000Z"),
        ((ALICE, "USD", "--at", "2026-11-21T10:00:02.999Z"), "100.00", 0, 2, "2026-11-21T10:00:02.999Z"),
        ((ALICE, "USD", "--at", "2026-11-21T10:00:03"), "87.66", 0, 3, "2026-11-21T10:00:03.000Z"),
        ((BOB, "USD"), "12.34", 0, 4, "2026-11-21T10:00:04.000Z"),
        ((CAROL, "JPY"), "5", 1, 1, "2026-11-21T10:00:02.000Z"),
        (("@bank", "USD"), "-100.00", None, None, "2026-11-21T10:00:04.000Z"),
        (("@transit", "USD"), "0.66", None, None, "2026-11-21T10:00:04.000Z"),
        (("@transit", "USD", "--at", "2026-11-21T10:00:04Z"), "0.66", None, None, "2026-11-21T10:00:04.000Z"),
    ],
)
def test_balance(
    cluster: tuple[Path, MadeJournal],
    words: tuple[str, ...],
    balance: str,
    partition: int | None,
    seq: int | None,
    time: str,
) -> None:
    assert answer("--map-file", cluster[0], "balance", *words) == {
        "account_id": words[0],
        "currency": words[1],
        **owned(balance),
        "partition": partition,
        "seq": seq,
        "time": time,
    }


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (("nobody", "USD"), "nobody has no USD account in partition", 1),
        ((ALICE, "EUR"), f"{ALICE} has no EUR account in partition 0", 1),
        ((ALICE, "USD", "--at", "0"), "at seq 0", 2),
        (
            (ALICE, "USD", "--at", "2026-11-21T09:59:59"),
            "at 2026-11-21T09:59:59.000Z: the first entry is of 2026-11-21T10:00:00.000Z",
            1,
        ),
        ((ALICE, "USD", "--at", "2099-01-01"), "2099-01-01T00:00:00.000Z is in the future, it is 20", 1),
        (("@bank", "USD", "--at", "2099-01-01"), "leave out --at for the present balance", 1),
        ((ALICE, "USD", "--at", "5"), f"partition 0 ({ALICE}) ends at seq 4", 1),
        ((ALICE, "USD", "--at", "teatime"), "neither a sequence number", 2),
        ((ALICE, "USD", "--at", "2026-02-30"), "neither a sequence number", 2),
        (("@bank", "USD", "--at", "2"), "give a time to --at", 2),
        (("@bank", "EUR"), "no EUR ever moved on @bank", 1),
        (("@transit", "USD", "--at", "2026-11-21T10:00:03Z"), "no USD ever moved on @transit at 2026", 1),
        (("no/slash", "USD"), "ACCOUNT must be 1-64 characters", 2),
        (("a" * 65, "USD"), "ACCOUNT must be 1-64 characters", 2),
        ((ALICE, "usd"), "currency must be an upper-case ISO 4217 code", 2),
        ((ALICE, "XXX"), "currency must be an upper-case ISO 4217 code", 2),
        ((ALICE, "USD", "--journal", "/nowhere"), "/nowhere is not a journal directory", 1),
    ],
)
def test_bad_input_is_one_line(
    cluster: tuple[Path, MadeJournal], words: tuple[str, ...], said: str, status: int
) -> None:
    assert said in refusal(admin("balance", "--map-file", cluster[0], *words), status)


def test_a_failure_is_a_document_too(cluster: tuple[Path, MadeJournal]) -> None:
    result = admin("--json", "balance", "nobody", "USD", "--map-file", cluster[0])
    assert result.exit_code == 1
    assert "nobody has no USD account" in json.loads(result.stdout)["error"]


def test_people_read_the_instant(cluster: tuple[Path, MadeJournal]) -> None:
    result = admin("balance", ALICE, "USD", "--at", "2026-11-21T11:00:01+01:00", "--map-file", cluster[0])
    assert result.stdout == f"{ALICE}  100.00 USD\npartition 0, seq 2, 2026-11-21T10:00:01.000Z\n"


def test_without_a_live_journal_the_directory_must_be_given(tmp_path: Path) -> None:
    make_map(tmp_path / "map.json", 2).close()
    journal = MadeJournal(tmp_path / "j")
    journal.add(0, f"o - {ALICE} - 0 USD")
    journal.close()
    words = ("balance", ALICE, "USD", "--map-file", tmp_path / "map.json")
    assert "none is alive" in refusal(admin(*words))
    assert "--journal DIR" in refusal(admin(*words))
    assert answer(*words, "--journal", tmp_path / "j")["balance"] == "0.00"


def test_what_is_read_from_a_dead_copy_is_said_to_be_old(tmp_path: Path) -> None:
    """It answered as if the copy's end were the journal's, while another one went on."""
    directory = make_map(tmp_path / "map.json", 2)
    dead, live = MadeJournal(tmp_path / "dead"), MadeJournal(tmp_path / "live")
    for journal in (dead, live):
        journal.add(0, f"o - {ALICE} - 0 USD")
    live.add(0, f"t {txid(1)} @bank {ALICE} 500 USD")
    register_journal(directory, tmp_path / "live")
    flags = ("--map-file", tmp_path / "map.json", "--journal", tmp_path / "dead")
    found = answer("balance", ALICE, "USD", *flags)
    assert found["balance"] == "0.00"
    assert f"{tmp_path}/dead was not compared with a live copy of the journal" in found["note"]
    assert "such as j1 on " in found["note"]
    assert found["note"] in admin("balance", ALICE, "USD", *flags).stdout
    assert found["note"] == answer("replay", "--into", tmp_path / "into", *flags)["note"]
    assert "was not compared with a live copy" in admin("verify", "--offline", *flags).stdout
    assert "note" not in answer("balance", ALICE, "USD", *flags[:3], tmp_path / "live")
    directory.close()
    for journal in (dead, live):
        journal.close()


def test_behind_the_end_of_a_journal_that_nobody_writes_nothing_is_known(tmp_path: Path) -> None:
    """The journal may be of last week. Later entries are then in another journal."""
    make_map(tmp_path / "map.json", 2).close()
    journal = MadeJournal(tmp_path / "j")
    journal.add(0, f"o - {ALICE} - 0 USD")
    journal.add(1, f"o - {CAROL} - 0 USD")
    journal.close()
    words = (
        "balance",
        ALICE,
        "USD",
        "--map-file",
        tmp_path / "map.json",
        "--journal",
        tmp_path / "j",
        "--at",
    )
    assert answer(*words, "2026-11-21T10:00:01Z")["balance"] == "0.00"
    said = refusal(admin(*words, "2026-11-21T10:00:01.001Z"))
    assert "ends at 2026-11-21T10:00:01.000Z and no process writes it" in said


def test_a_damaged_journal_gives_no_balance(cluster: tuple[Path, MadeJournal]) -> None:
    segment = cluster[1].directory / "00000001.wal"
    data = bytearray(segment.read_bytes())
    data[200] ^= 1
    segment.write_bytes(data)
    said = refusal(admin("balance", ALICE, "USD", "--map-file", cluster[0]))
    assert "00000001.wal at offset 128" in said
    assert "verify --offline" in said


def test_now_is_what_the_journal_process_says_is_durable(tmp_path: Path) -> None:
    """G8: an entry that is written but not receipted is not part of the newest balance."""
    journal = MadeJournal(tmp_path / "j")
    journal.add(0, f"o - {ALICE} - 0 USD", f"t {txid(1)} @bank {ALICE} 100 USD")
    journal.add(0, f"t {txid(2)} @bank {ALICE} 100 USD")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(3):
                connection, _address = server.accept()
                with connection:
                    answer_as_copy(connection, [(0, 1, "0" * 16)], [(0, 2, "1" * 16)])

        thread = threading.Thread(target=serve)
        thread.start()
        directory = make_map(tmp_path / "map.json", 2)
        register_journal(directory, journal.directory, f"127.0.0.1:{server.getsockname()[1]}")
        words = ("balance", ALICE, "USD", "--map-file", tmp_path / "map.json")
        assert (answer(*words)["balance"], answer(*words)["seq"]) == ("1.00", 1)
        assert answer(*words, "--at", "2")["balance"] == "2.00"
        assert answer("balance", "@bank", "USD", *words[3:])["balance"] == "-1.00"
        thread.join()
        directory.close()
    journal.close()
