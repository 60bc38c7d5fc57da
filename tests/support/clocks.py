"""Wall clocks of real processes, which tests step at will, process by process; see `stepped_clock.c`."""

import mmap
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MICROSECONDS: Final = 1_000_000


class Clocks:
    """A process started with `environ` has a clock of its own when its command line has one of the names.

    The first such word counts. `dev` names Redis nodes `s1-1` …, services `api-1` …, journal copies `j1` …. Other
    processes' clocks, and all monotonic clocks, are the machine's.
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
        """From now on these clocks, or all, are `seconds` ahead of the machine's."""
        for name in names or self.names:
            self._offsets[name][:] = int(seconds * MICROSECONDS).to_bytes(8, "little", signed=True)

    @contextmanager
    def stepped(self, seconds: float, *names: str) -> Iterator[None]:
        """The clocks are ahead inside the block, and right before and after it."""
        self.step(seconds, *names)
        try:
            yield
        finally:
            self.step(0, *names)


def compiled(directory: Path, name: str) -> Path:
    """Compile the C source of that name beside this file to a library, for preloading."""
    compiler = shutil.which("cc")
    assert compiler, "a C compiler is missing: apt-get install gcc libc6-dev"
    library = directory / f"{name}.so"
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return library
