"""Chooses the journal directory to read, and asks live journal processes which entries they have on disk."""

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from wallet_engine.domain.errors import ConfigError, text_of
from wallet_engine.domain.paths import path_text
from wallet_engine.journal.copies_wire import Standings, StateAsk
from wallet_engine.journal.feed_wire import Ended, EndsAsk, FollowerHello
from wallet_engine.journal.peers import Peer
from wallet_engine.journal.restore import restore_with
from wallet_engine.journal.segments import numbers_on_disk
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import JournalInfo
from wallet_engine.telemetry.flags import RESTORE_COMMAND_HELP

#: How long a journal process may take to report its state.
STATE_WAIT_S_MAX: Final = 3.0
_POLL_S: Final = 0.05

#: For verbs that read a journal directory: how to fetch segments that are only in the archive.
restore_option = click.option(
    "--restore-command",
    metavar="COMMAND",
    expose_value=False,
    callback=lambda _context, _param, command: restore_with(command),
    help=RESTORE_COMMAND_HELP,
)


def journal_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--journal DIR` of a verb that reads a journal directory; the verb gives it to `find_journal`."""
    return click.option(
        "--journal",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Directory of a journal copy.  [default: that of a live copy on this host]",
    )(restore_option(command))


@dataclass(frozen=True, slots=True)
class JournalSource:
    """A directory to read; `info` is the live process that writes it, if it is known.

    `others`: the live copies, when none of them writes this directory.
    """

    directory: Path
    info: JournalInfo | None = None
    others: tuple[str, ...] = ()

    def note(self) -> dict[str, str]:
        """For the answer of a verb: that the directory may lack what a live copy has; empty if one writes it."""
        if self.info is not None:
            return {}
        others = f", such as {' and '.join(self.others)}" if self.others else ""
        said = f"{path_text(self.directory)} was not compared with a live copy of the journal"
        return {"note": f"{said}: it may lack what others have{others}"}

    def show_note(self, console: Console) -> None:
        for said in self.note().values():
            console.print(f"note: {said}", soft_wrap=True)


def find_journal(directory: Directory, given: Path | None) -> JournalSource:
    """The directory given, or that of the live journal copy on this host that has most.

    Raises `ConfigError` when there is none, or it is not a journal.
    """
    journals = directory.journals()
    if given is not None:
        own = [info for info in journals.values() if _is_here(info) and _same(info.path, given)]
        others = () if own else tuple(f"{info.journal_id} on {info.host}" for info in journals.values())
        return JournalSource(check_journal(given), own[0] if own else None, others)
    here = [info for info in journals.values() if _is_here(info) and _exists(info.path)]
    if here:
        info = here[0] if len(here) == 1 else max(here, key=_entries)
        return JournalSource(check_journal(info.path), info)
    elsewhere = ", ".join(f"{info.journal_id} on {info.host}" for info in journals.values())
    raise ConfigError(
        f"no live journal copy has its directory on this host ({elsewhere or 'none is alive'}): "
        f"give it with --journal DIR, or run this where it is"
    )


def check_current(directory: Directory, source: JournalSource) -> None:
    """Wait until a live copy has all that the other copies have now. Without that, its end is not the journal's.

    Raises `ConfigError` when it does not get there: it is stopped, hangs, or has just begun to catch up.
    """
    if source.info is None:
        return
    own, wanted = source.info, dict[int, int]()
    others = [info for name, info in directory.journals().items() if name != own.journal_id]
    for state in filter(None, map(copy_state, others)):
        wanted |= {p: max(seq, wanted.get(p, 0)) for p, seq in state.on_disk.items()}
    deadline_s = time.monotonic() + STATE_WAIT_S_MAX
    while wanted:
        has = copy_state(own)
        lacks = None if has is None else sum(max(0, seq - has.on_disk.get(p, 0)) for p, seq in wanted.items())
        if lacks == 0:
            return
        if time.monotonic() > deadline_s:
            what = "does not answer" if lacks is None else f"lacks {lacks:,} entries that another copy has"
            raise ConfigError(
                f"journal copy {own.journal_id}, which writes {path_text(source.directory)}, {what}: see "
                f"wallet-admin journal info; run this again when it has caught up, or where another copy is"
            )
        time.sleep(_POLL_S)


def check_journal(path: Path) -> Path:
    """Returns the path. Raises `ConfigError` when it holds no journal, or this user may not read it."""
    try:
        found = path.is_dir() and numbers_on_disk(path)
    except PermissionError:
        raise ConfigError(
            f"this user may not read {path}: run this as the user of the journal process"
        ) from None
    if not found:
        raise ConfigError(f"{path} is not a journal directory (no *.wal in it): set --journal")
    return path


@dataclass(frozen=True, slots=True)
class CopyState:
    """Partition -> last seq, of a live copy: on disk, and receipted. A partition without entries is left out.

    A copy gives no receipts for a partition from the start of its recovery until the copy knows the new epoch.
    """

    on_disk: dict[int, int]
    receipted: dict[int, int]


def copy_state(info: JournalInfo) -> CopyState | None:
    """The state that a live copy reports; None when it does not answer."""
    try:
        return asyncio.run(_ask_state(info))
    except (OSError, ValueError):
        return None


def receipted_seqs(info: JournalInfo) -> dict[int, int] | None:
    """Partition -> last seq for which a live copy gives receipts; None when it does not answer."""
    state = copy_state(info)
    return None if state is None else state.receipted


async def _ask_state(info: JournalInfo) -> CopyState:
    async with asyncio.timeout(STATE_WAIT_S_MAX):
        peer = await Peer.connect(info.journal_id, info.address, "wallet-admin", info.tls)
        try:
            standings = (await peer.ask(StateAsk([]), Standings)).standings
            on_disk = {each.partition: each.seq for each in standings if each.seq}
            return CopyState(on_disk, {partition: seq for partition, seq, _ in peer.receipted})
        finally:
            peer.close()


async def final_seqs(info: JournalInfo) -> dict[int, int]:
    """Partition -> last seq that a live copy has and knows to be final. Raises `ConfigError`."""
    try:
        peer = await Peer.connect(info.journal_id, info.address, FollowerHello("wallet-admin"), info.tls)
        try:
            return dict((await peer.ask(EndsAsk(), Ended)).ends)
        finally:
            peer.close()
    except OSError as error:
        raise ConfigError(f"journal copy {info.journal_id} does not answer: {text_of(error)}") from error


def _entries(info: JournalInfo) -> int:
    """How many a live copy has on disk; -1 when it does not answer."""
    state = copy_state(info)
    return -1 if state is None else sum(state.on_disk.values())


def _is_here(info: JournalInfo) -> bool:
    return info.host == socket.gethostname()


def _exists(path: Path) -> bool:
    """Whether there is a directory; also when this user may not look."""
    try:
        return path.is_dir()
    except PermissionError:
        return True


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
