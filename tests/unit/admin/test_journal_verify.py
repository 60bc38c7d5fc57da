"""`wallet-admin journal verify` on directories that are the same, behind or different, and on a copy that ends."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wallet_engine.admin.proof.journal_copies import compare_live
from wallet_engine.domain.entry import ZERO_NONCE, parse_header
from wallet_engine.domain.errors import ConfigError
from wallet_engine.journal import JournalWriter
from wallet_engine.journal.copies_wire import EntryTexts, Standing, Standings
from wallet_engine.journal.link_wire import CopyHello, encode
from wallet_engine.journal.reader import read
from wallet_engine.routing.model import JournalInfo


def write(directory: Path, journal_id: str, entries: list[tuple[int, int, int]]) -> Path:
    """Write a journal of (partition, seq, what). Entries of one seq differ when their `what` differs."""
    writer = JournalWriter(directory, journal_id)
    last: dict[int, str] = {}
    for partition, seq, what in entries:
        nonce = f"{seq * 100 + what:016x}"
        text = f"{seq} {last.get(partition, ZERO_NONCE)} {nonce} 1 1700000000000 1 +\ns 1 - - 0 -\n".encode()
        writer.append(partition, text, parse_header(text))
        last[partition] = nonce
    writer.sync()
    writer.close()
    return directory


def verify(*directories: Path) -> tuple[int, dict[str, Any]]:
    command = [str(Path(sys.executable).with_name("wallet-admin")), "--json", "journal", "verify"]
    done = subprocess.run([*command, *map(str, directories)], capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


def test_behind_is_not_different(tmp_path: Path) -> None:
    """Partitions may be in any order. Fewer entries of a partition are reported, but are no fault."""
    one = write(tmp_path / "1", "j1", [(0, 1, 0), (1, 1, 0), (0, 2, 0)])
    other = write(tmp_path / "2", "j2", [(1, 1, 0), (0, 1, 0)])
    status, said = verify(one, other)
    assert (status, said["same"], said["differences"]) == (0, True, [])
    assert [copy["behind"] for copy in said["copies"]] == [0, 1]


def test_the_first_difference_is_named(tmp_path: Path) -> None:
    """The report names the copy in the minority, with partition, seq, file and offset."""
    same = [(0, seq, 0) for seq in range(1, 9)] + [(3, seq, 0) for seq in range(1, 21)]
    odd = same[:8] + [(3, seq, 7 if seq >= 13 else 0) for seq in range(1, 16)]
    copies = [
        write(tmp_path / name, name, entries) for name, entries in (("a", same), ("b", odd), ("c", same))
    ]
    status, said = verify(*copies)
    assert status == 1
    (difference,) = said["differences"]
    record = next(read(copies[1], after={3: 12}, end={3: 13}))
    assert difference == {
        "copy": str(copies[1]),
        "partition": 3,
        "seq": 13,
        "file": "00000001.wal",
        "offset": record.offset,
    }


@contextmanager
def live(name: str, payload: bytes) -> Iterator[JournalInfo]:
    """A journal copy with one entry, which ends when it is asked where that is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            link, _ = listener.accept()
            with link, link.makefile("rb") as asked:
                link.sendall(encode(CopyHello(name, [(0, 1, ZERO_NONCE)])))
                for answer in (
                    None,  # the hello
                    Standings([Standing(0, 1, ZERO_NONCE, 1, 1)]),
                    EntryTexts([(0, payload)], True),
                    None,  # the place
                ):
                    asked.read(int.from_bytes(asked.read(4), "little"))
                    if answer is not None:
                        link.sendall(encode(answer))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield JournalInfo(name, f"127.0.0.1:{listener.getsockname()[1]}", "/j", 1, "h")
        thread.join(5)


def test_a_copy_that_ends_when_it_is_asked_for_the_place_is_named() -> None:
    """It was a traceback."""
    with (
        live("j1", b"one") as one,
        live("j2", b"other") as other,
        pytest.raises(ConfigError, match="journal copy j1 stopped answering"),
    ):
        asyncio.run(compare_live([one, other]))
