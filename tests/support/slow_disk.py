"""Disks of real processes that a test slows down, folder by folder; see `slow_disk.c`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.clocks import compiled


class SlowDisks:
    """In a process started with `environ`, fdatasync takes as long as `slowed` says for the file's folder."""

    def __init__(self, directory: Path) -> None:
        self._folder = directory / "disks"
        self._folder.mkdir(parents=True)
        library = compiled(directory, "slow_disk")
        self.environ = {"LD_PRELOAD": str(library), "SLOW_DISKS": str(self._folder)}

    def __repr__(self) -> str:
        return f"<SlowDisks {self._folder}>"

    @contextmanager
    def slowed(self, ms: int, *folders: Path) -> Iterator[None]:
        """Syncs take `ms` longer meanwhile, and are as fast as before at once at the end. Folders go by their names."""
        try:
            for folder in folders:
                self._write(folder, ms)
            yield
        finally:
            for folder in folders:
                self._write(folder, 0)

    def _write(self, folder: Path, ms: int) -> None:
        unfinished = self._folder / f".{folder.name}"
        unfinished.write_text(str(ms))
        unfinished.replace(self._folder / folder.name)
