"""Clusters without processes: a map file, and a journal whose entries the oracle decided."""

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from wallet_engine.admin.cli import main
from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import RULES, parse_header
from wallet_engine.domain.operation import parse_operation
from wallet_engine.domain.oracle import apply_payload
from wallet_engine.domain.oracle_rules import decide_operations
from wallet_engine.domain.oracle_state import PartitionState, redis_image, state_of_image
from wallet_engine.journal.copies_wire import Standing, Standings
from wallet_engine.journal.link_wire import Ask, CopyHello, encode
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.routing.directory import Directory, open_directory
from wallet_engine.routing.model import ClusterConfig, JournalInfo, Shard, spread
from wallet_engine.routing.slots import partition_of

START_MS = 1_795_255_200_000  # 2026-11-21T10:00:00Z


def txid(number: int) -> str:
    """A packed transaction id."""
    return f"{number:022d}"


def account_in(partition: int, partitions: int, number: int = 0) -> str:
    """Of the account ids `a0`, `a1`, … in the partition, the one at index `number`."""
    names = (f"a{i}" for i in range(10_000))
    return [name for name in names if partition_of(name, partitions) == partition][number]


def payload_of(
    state: PartitionState, nonce: str, time_ms: int, window: int, outcomes: str, text: str
) -> bytes:
    """The next entry of the state."""
    head = (
        f"{state.seq + 1} {state.nonce} {nonce} {max(state.epoch, 1)} {time_ms} {window} {outcomes} {RULES}\n"
    )
    return (head + text).encode()


class MadeJournal:
    """A journal directory. Each entry is one second later than the one before, over all partitions."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.writer = JournalWriter(directory, "j1", **options)
        self.states: dict[int, PartitionState] = {}
        self.entries = 0

    def add(self, partition: int, *lines: str, time_ms: int | None = None, rotate: bool = False) -> str:
        """Append one entry with these operations, as the oracle decides them; `rotate` opens a window."""
        state = self.states.setdefault(partition, PartitionState())
        trial = PartitionState() if not state.seq else state_of_image(redis_image(state))
        time_ms = START_MS + self.entries * 1000 if time_ms is None else time_ms
        operations = [parse_operation(line) for line in lines]
        window = state.window + rotate
        outcomes = decide_operations(trial, operations, time_ms, window)
        nonce = f"{self.entries + 1:016x}"
        text = pack(operations).columns.decode()
        self.append(partition, payload_of(state, nonce, time_ms, window, outcomes, text))
        return outcomes

    def append(self, partition: int, payload: bytes) -> None:
        """Append a valid entry, and fold it."""
        apply_payload(self.states.setdefault(partition, PartitionState()), payload)
        self.append_anything(partition, payload)

    def append_anything(self, partition: int, payload: bytes) -> None:
        """Append an entry without asking the oracle."""
        self.writer.append(partition, payload, parse_header(payload))
        self.writer.sync()
        self.entries += 1

    def close(self) -> None:
        self.writer.close()


def make_map(
    path: Path, partitions: int, shards: Sequence[Shard] = (Shard("s1", ("127.0.0.1:1",)),)
) -> Directory:
    """Initialise a cluster in a map file. Returns its open directory."""
    directory = open_directory(None, path)
    names = [shard.name for shard in shards]
    directory.initialise(ClusterConfig(partitions), shards, spread(partitions, names))
    return directory


def register_journal(directory: Directory, journal: Path, address: str = "127.0.0.1:1") -> None:
    """Announce this process as the journal process of a directory. Its copy is the only one that counts."""
    directory.replace_members(directory.members(), ("j1",))
    directory.register_journal(JournalInfo("j1", address, str(journal), os.getpid(), socket.gethostname()))


def admin(*words: str | Path, **options: Any) -> Result:
    """Run `wallet-admin`. An exception other than an exit fails the test."""
    result = CliRunner().invoke(main, [str(word) for word in words], **options)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answer(*words: str | Path, status: int = 0) -> dict[str, Any]:
    """The document that `wallet-admin … --json` prints."""
    result = admin(*words, "--json")
    assert result.exit_code == status, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def refusal(result: Result, status: int = 1) -> str:
    """The error line of a failed command, which prints nothing on standard output."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 or status == 2, result.stderr
    return lines[-1].removeprefix("Error: ")


def answer_as_copy(connection: socket.socket, receipted: Sequence[Ask], on_disk: Sequence[Ask]) -> None:
    """Answer `wallet-admin` as journal copy j1: its name, its receipts, and its positions."""
    connection.sendall(encode(CopyHello("j1", list(receipted))))
    with connection.makefile("rb") as asked:
        for _ in ("peer", "state"):
            asked.read(int.from_bytes(asked.read(4), "little"))
    standings = [Standing(partition, seq, nonce, 1, 1) for partition, seq, nonce in on_disk]
    connection.sendall(encode(Standings(standings)))
