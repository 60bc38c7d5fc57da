"""Which journal directory to read, and what a live journal process says is durable."""

import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import msgspec

from wallet_engine.domain.errors import ConfigError
from wallet_engine.journal.receipts_wire import CopyHello, MessageBuffer, MessageTooLong, decode_from_journal
from wallet_engine.journal.segments import segment_path
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import JournalInfo

#: How long a journal process may take to say what it holds.
HELLO_WAIT_S_MAX: Final = 3.0
_READ_BYTES: Final = 64 * 1024


#: `--journal DIR` of a verb that reads a journal directory; the verb gives it to `find_journal`.
journal_option = click.option(
    "--journal",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Directory of a journal copy.  [default: that of a live copy on this host]",
)


@dataclass(frozen=True, slots=True)
class JournalSource:
    """A directory to read; `info` is the live process that writes it, as far as that is known."""

    directory: Path
    info: JournalInfo | None = None


def find_journal(directory: Directory, given: Path | None) -> JournalSource:
    """The directory given, or that of a live journal copy on this host.

    Raises `ConfigError` when there is none, or it is not a journal.
    """
    journals = directory.journals()
    if given is not None:
        own = [info for info in journals.values() if _is_here(info) and _same(info.path, given)]
        return JournalSource(check_journal(given), own[0] if own else None)
    for info in journals.values():
        if _is_here(info) and info.path.is_dir():
            return JournalSource(check_journal(info.path), info)
    elsewhere = ", ".join(f"{info.journal_id} on {info.host}" for info in journals.values())
    raise ConfigError(
        f"no live journal copy has its directory on this host ({elsewhere or 'none is alive'}): "
        f"give it with --journal DIR, or run this where it is"
    )


def check_journal(path: Path) -> Path:
    """The path, or `ConfigError` when no journal is in it."""
    if not segment_path(path, 1).is_file():
        raise ConfigError(
            f"{path} is not a journal directory (no {segment_path(path, 1).name}): set --journal"
        )
    return path


def durable_seqs(info: JournalInfo) -> dict[int, int] | None:
    """partition -> last durable seq, from the copy's first message; None when it does not answer.

    Partitions without an entry are left out.
    """
    host, _, port = info.address.rpartition(":")
    deadline = time.monotonic() + HELLO_WAIT_S_MAX
    messages = MessageBuffer()
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=HELLO_WAIT_S_MAX) as connection:
            while (remaining_s := deadline - time.monotonic()) > 0:
                connection.settimeout(remaining_s)
                data = connection.recv(_READ_BYTES)
                if not data:
                    return None
                for body in messages.feed(data):
                    message = decode_from_journal(body)
                    if isinstance(message, CopyHello) and message.journal_id == info.journal_id:
                        return {partition: seq for partition, seq, _nonce in message.positions}
                    return None
    except (OSError, MessageTooLong, msgspec.MsgspecError):
        return None
    return None


def _is_here(info: JournalInfo) -> bool:
    return info.host == socket.gethostname()


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
