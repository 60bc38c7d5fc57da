"""Until when the certificates are good that a process has in its files, for its metrics."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from wallet_engine.domain.errors import ConfigError


class Ending(NamedTuple):
    """`holder` is `journal/j1`; empty for an authority, and for others' certificates."""

    file: str
    holder: str
    #: Unix seconds.
    ends_s: float


class CertificateEnds:
    """The ends of the certificates in these files, read anew when they change. An unreadable file is left out."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = sorted(set(files))
        self._known: dict[Path, tuple[tuple[int, int, int], Ending]] = {}
        for _ in self.look():  # what it needs is loaded now: it takes a tenth of a second
            pass

    def __repr__(self) -> str:
        return f"<CertificateEnds {len(self._files)}>"

    def look(self) -> Iterator[Ending]:
        for path in self._files:
            try:
                found = path.stat()
                seen = (found.st_ino, found.st_size, found.st_mtime_ns)
                known = self._known.get(path)
                if known is None or known[0] != seen:
                    known = self._known[path] = seen, _read(path)
                yield known[1]
            except (OSError, ConfigError):
                continue


def _read(path: Path) -> Ending:
    from wallet_engine.telemetry.authority import holder_of

    holder, ends = holder_of(path)
    return Ending(str(path), "" if holder is None else str(holder), ends.timestamp())
