"""Removes archived segments that `--keep` does not keep and nothing needs, beside payments (`recovery.pruning`)."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from wallet_engine.app.troubles import Tell
from wallet_engine.domain.errors import WalletError, text_of
from wallet_engine.journal.feed_server import FeedServer
from wallet_engine.journal.prune import remove_segment
from wallet_engine.journal.snapshots import list_snapshots
from wallet_engine.journal.threads import in_thread
from wallet_engine.recovery.fellows import Fellows
from wallet_engine.recovery.pruning import Facts, Keep, Pruning, beyond_keep, plan_pruning
from wallet_engine.routing.directory import Directory
from wallet_engine.telemetry.logging import get_logger

POLL_S: Final = 10.0
#: How long the same reason may hold segments back before it is reported.
HELD_S_WARN: Final = 600.0

_decode_seqs = msgspec.json.Decoder(dict[int, int]).decode

log = get_logger(__name__)


class Pruner:
    """For one journal process."""

    def __init__(
        self, journal: Path, keep: Keep, directory: Directory, feed: FeedServer, fellows: Fellows, tell: Tell
    ) -> None:
        """`tell` gets the reason that holds segments back for long, or why they cannot be removed."""
        self._journal = journal
        self._keep = keep
        self._directory = directory
        self._feed = feed
        self._fellows = fellows
        self._tell = tell
        #: Partition -> seq of its good snapshot, and the snapshot files at the time of that check.
        self._snapshots: dict[int, int] = {}
        self._looked_at: dict[int, list[Path]] = {}
        #: The reason that holds segments back, and since when (monotonic, seconds).
        self._held = ("", 0.0)

    def __repr__(self) -> str:
        return f"<Pruner {self._journal} keep={self._keep.text} held={self._held[0]!r}>"

    async def run(self) -> None:
        """Prune regularly, until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.prune()
            except Exception as error:  # payments must not stop because nothing is removed
                unforeseen = not isinstance(error, WalletError | OSError)
                log.warning(
                    "segments not removed", error=text_of(error), exc_info=error if unforeseen else None
                )
                self._tell(f"prune: {text_of(error)}")

    async def prune(self) -> None:
        """Prune once. Raises `WalletError`, OSError."""
        now_ms = time.time_ns() // 1_000_000
        if await in_thread(self._nothing, now_ms):
            self._note("")
            return
        facts = await self._facts()
        plan: Pruning = await in_thread(plan_pruning, self._journal, self._keep, facts, now_ms)
        for number in plan.numbers:
            size = await in_thread(remove_segment, self._journal, number)
            log.info("segment removed, it is in the archive", segment=number, bytes=size)
        self._note(plan.held)

    def _nothing(self, now_ms: int) -> bool:
        return next(beyond_keep(self._journal, self._keep, now_ms), None) is None

    async def _facts(self) -> Facts:
        await self._feed.look()
        copies = self._fellows.on_disk()
        followers = await asyncio.to_thread(self._directory.followers.seqs)
        files = await in_thread(list_snapshots, self._journal)
        if files != self._looked_at:
            self._snapshots = await self._good_snapshots()
            self._looked_at = files
        return Facts(dict(self._feed.ends), self._snapshots, followers, copies)

    async def _good_snapshots(self) -> dict[int, int]:
        """Read them in a process of its own: in this one, reading would take time from payments."""
        command = (sys.executable, "-m", "wallet_engine.recovery.pruning", str(self._journal))
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        try:
            found, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            raise OSError(f"the process that reads snapshots ended with status {process.returncode}")
        return _decode_seqs(found)

    def _note(self, held: str) -> None:
        name, now_s = held.partition(":")[0], time.monotonic()
        if name != self._held[0].partition(":")[0]:
            self._held = (held, now_s)
            if held:
                log.info("segments are held back", why=held)
        self._tell(f"prune: {held}" if held and now_s >= self._held[1] + HELD_S_WARN else "")
