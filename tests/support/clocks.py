"""Wall clocks of real processes that tests move at will, each process' on its own; see `stepped_clock.c`."""

import mmap
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MICROSECONDS: Final = 1_000_000


class Clocks:
    """A process started with `environ` has the clock of the first word on its command line that is a name.

    For what `dev` starts these are `s1-1` … for Redis nodes, `api-1` … for services, `j1` … for journal copies. The
    clocks of all others, and all monotonic ones, are those of the machine.
    """

    def __init__(self, directory: Path, names: Iterable[str]) -> None:
        folder = directory / "clocks"
        folder.mkdir(parents=True)
        self.names = tuple(names)
        self._offsets: dict[str, mmap.mmap] = {}
        for name in self.names:
            path = folder / name
            path.write_bytes(bytes(8))
            with path.open("r+b") as file:
                self._offsets[name] = mmap.mmap(file.fileno(), 8)
        library = compiled(directory, "stepped_clock")
        self.environ = {"LD_PRELOAD": str(library), "STEPPED_CLOCKS": str(folder)}

    def __repr__(self) -> str:
        return f"<Clocks {', '.join(self.names)}>"

    def step(self, seconds: float, *names: str) -> None:
        """From now on these clocks, or all, are so far ahead of the machine's."""
        for name in names or self.names:
            self._offsets[name][:] = int(seconds * MICROSECONDS).to_bytes(8, "little", signed=True)

    @contextmanager
    def stepped(self, seconds: float, *names: str) -> Iterator[None]:
        """Right before and right afterwards."""
        self.step(seconds, *names)
        try:
            yield
        finally:
            self.step(0, *names)


def compiled(directory: Path, name: str) -> Path:
    """A library of the C source of that name beside this file, to be preloaded."""
    compiler = shutil.which("cc")
    assert compiler, "a C compiler is missing: apt-get install gcc libc6-dev"
    library = directory / f"{name}.so"
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return library
