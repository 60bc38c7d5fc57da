"""Counts what reading segments costs: frames looked at, and those of them looked at in an event loop's thread."""

import asyncio
from collections.abc import Iterator

import pytest

from wallet_engine.journal import take as take_module
from wallet_engine.journal import writer as writer_module
from wallet_engine.journal.scan import Scan


class Looked:
    """Counts from the moment it is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.frames = 0
        self.frames_on_loop = 0
        plain = Scan.__iter__

        def counting(scan: Scan) -> Iterator[tuple[int, int, int, bytes]]:
            on_loop = asyncio._get_running_loop() is not None
            for frame in plain(scan):
                self.frames += 1
                self.frames_on_loop += on_loop
                yield frame

        monkeypatch.setattr(Scan, "__iter__", counting)

    def since(self) -> int:
        """Frames looked at since the last call."""
        frames, self.frames = self.frames, 0
        return frames


def with_marks_every(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set how many bytes apart reading can start, so that small journals behave like large ones."""
    monkeypatch.setattr(writer_module, "MARK_BYTES", size)
    monkeypatch.setattr(take_module, "MARK_BYTES", size)
