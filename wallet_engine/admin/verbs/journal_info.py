"""`wallet-admin journal info`: lists the copies of the journal."""

import socket
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from wallet_engine.admin.journals import check_journal, journal_option
from wallet_engine.admin.nodes import memory_text
from wallet_engine.admin.session import Session, admin_command, plain_table
from wallet_engine.admin.survey import JournalState, survey
from wallet_engine.domain.entry import parse_header
from wallet_engine.domain.paths import path_text
from wallet_engine.domain.times import time_text
from wallet_engine.journal.format import KIND_ENTRY, SEGMENT_HEADER_BYTES
from wallet_engine.journal.scan import Scan
from wallet_engine.journal.segments import (
    numbers_on_disk,
    read_segment_header,
    segment_bytes,
    segment_numbers,
    segment_path,
)


@dataclass(frozen=True, slots=True)
class Files:
    """The segments in one directory of this host; `since_ms`: time of its first entry, None without one.

    `only_archived`: number of segments that are now only in the archive.
    """

    directory: Path
    segments: int
    bytes: int
    since_ms: int | None
    only_archived: int

    def document(self) -> dict[str, Any]:
        return {
            "directory": path_text(self.directory),
            "segments": self.segments,
            "bytes": self.bytes,
            "only_archived": self.only_archived,
            "since": None if self.since_ms is None else time_text(self.since_ms),
        }


@click.command()
@admin_command
@journal_option
def info(session: Session, journal: Path | None) -> None:
    """Show every copy of the journal: whether it answers, its position and its size.

    Lists the live copies, and those that count but do not run. Entries are those that the copy reports; the lag is
    the difference to Redis. Size and age are shown for directories on this host that you may read.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 journal info
      wallet-admin --zookeeper zk1:2181 journal info --journal /var/lib/wallet/journal --json
    """
    with session.directory() as directory:
        found = survey(directory)
        counted = frozenset(directory.members().copies)
        silent = sorted(counted - set(directory.journal_ids()))
    copies = [(state, _files_of(state)) for state in found.journals]
    given = None if journal is None else files_in(check_journal(journal))
    document = {
        "journal_quorum": found.config.journal_quorum,
        "copies": [_document(state, files, counted) for state, files in copies],
        "not_running": silent,
        "directory": None if given is None else given.document(),
    }

    def show(console: Console) -> None:
        _show(console, copies, silent)
        for name in sorted({state.info.journal_id for state, _ in copies} - counted):
            console.print(f"{name} does not count: it has not joined the others yet")
        if given is not None:
            console.print(f"{given.directory}: {_files_text(given)}", soft_wrap=True)
        console.print(f"an answer needs {found.config.journal_quorum} of them")

    session.answer(document, show)


def files_in(directory: Path) -> Files:
    """The segments in a journal directory. Raises `Damaged`."""
    absent = len(segment_numbers(directory))
    numbers = numbers_on_disk(directory)
    absent -= len(numbers)
    size = sum(segment_bytes(directory, number) for number in numbers)
    return Files(directory, len(numbers), size, _first_ms(directory, numbers), absent)


def _first_ms(directory: Path, numbers: Sequence[int]) -> int | None:
    for number in numbers:
        start = read_segment_header(directory, number).start_hash
        scan = Scan(segment_path(directory, number), SEGMENT_HEADER_BYTES, start, verify=False)
        for _, _, kind, payload in scan:
            if kind == KIND_ENTRY:
                return parse_header(payload).time_ms
    return None


def _files_of(state: JournalState) -> Files | None:
    """None when the directory is not on this host, or this user may not read it."""
    directory = state.info.path
    with suppress(PermissionError):
        if state.info.host == socket.gethostname() and directory.is_dir() and numbers_on_disk(directory):
            return files_in(directory)
    return None


def _document(state: JournalState, files: Files | None, counted: Collection[str]) -> dict[str, Any]:
    return {
        "journal_id": state.info.journal_id,
        "address": state.info.address,
        "host": state.info.host,
        "directory": state.info.directory,
        "counts": state.info.journal_id in counted,
        "reachable": state.durable is not None,
        "entries": None if state.durable is None else sum(state.durable.values()),
        "lag_entries": state.lag_entries,
        "silent_partitions": list(state.silent_partitions),
        "files": None if files is None else files.document(),
    }


def _files_text(files: Files | None) -> str:
    if files is None:
        return "-"
    since = "no entry" if files.since_ms is None else f"since {time_text(files.since_ms)}"
    archived = f", {files.only_archived} more in the archive" if files.only_archived else ""
    return f"{files.segments} segments, {memory_text(files.bytes)}, {since}{archived}"


def _show(console: Console, copies: list[tuple[JournalState, Files | None]], silent: list[str]) -> None:
    table = plain_table("journal", "address", "entries", "lag", "where", "files")
    for state, files in copies:
        where = f"{state.info.host}:{state.info.directory}"
        if state.durable is None:
            table.add_row(state.info.journal_id, state.info.address, "-", "does not answer", where, "-")
            continue
        lag = "unknown" if state.lag_entries is None else f"{state.lag_entries:,}"
        entries = f"{sum(state.durable.values()):,}"
        table.add_row(state.info.journal_id, state.info.address, entries, lag, where, _files_text(files))
    for name in silent:
        table.add_row(name, "-", "-", "not running", "-", "-")
    console.print(table)
