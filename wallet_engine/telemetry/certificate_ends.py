"""Reads the expiry of a process's certificate files, for its metrics."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from wallet_engine.domain.errors import ConfigError


class Ending(NamedTuple):
    """The end of a certificate. `holder`: such as `journal/j1`; empty when the certificate names none."""

    file: str
    holder: str
    #: Unix seconds.
    ends_s: float


class CertificateEnds:
    """The ends of the certificates in these files. A changed file is read again; an unreadable one is skipped."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = sorted(set(files))
        self._known: dict[Path, tuple[tuple[int, int, int], Ending]] = {}
        for _ in self.look():  # import the libraries now, which takes 0.1 s, and not at the first scrape
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
