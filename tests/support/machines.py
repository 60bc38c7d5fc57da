"""Simulated machines: each has a network, a name, and files of its own in /etc, /var, /opt and /run.

Files written there go to a folder that overlays this machine's files, and are gone with it. systemd, ssh and the
network that packages come from have stand-ins (`standins/`), first in `PATH`. Needs root, `ip` and overlayfs.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from support.hosts import Host, hosts
from support.replicated import wait_until

from wallet_engine.dev.process import Child

STANDINS = Path(__file__).parent / "standins"
OWN = ("etc", "var", "opt")
START_S_MAX = 30.0
_fence = re.compile(r"^```sh ([a-z0-9 -]+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """Commands of a document: ```` ```sh WHERE… ````."""

    places: tuple[str, ...]
    text: str


def blocks_of(document: str, heading: str) -> list[Block]:
    """The blocks of one `## ` section of a Markdown document."""
    _, found, rest = document.partition(f"\n## {heading}\n")
    assert found, f"no section {heading}"
    return [Block(tuple(places.split()), text) for places, text in _fence.findall(rest.partition("\n## ")[0])]


class Machine:
    """One machine; without a `host` it has this machine's network."""

    def __init__(self, folder: Path, host: Host | None) -> None:
        self.folder = folder
        self.host = host
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self._ready = folder / "ready"
        mounts = ["set -e", f"hostname {folder.name}", f"mount -t tmpfs -o size=64m tmpfs {folder / 'run'}"]
        (folder / "run").mkdir()
        for name in OWN:
            upper, work = folder / name, folder / f".{name}"
            upper.mkdir()
            work.mkdir()
            where = f"lowerdir=/{name},upperdir={upper},workdir={work}"
            mounts.append(f"mount -t overlay -o {where} overlay /{name}")
        mounts += [f"mount --bind {folder / 'run'} /run", f"touch {self._ready}", "exec sleep infinity"]
        inside = () if host is None else ("ip", "netns", "exec", host.namespace)
        argv = (
            *inside,
            "unshare",
            "--mount",
            "--uts",
            "--propagation",
            "private",
            "sh",
            "-c",
            "; ".join(mounts),
        )
        self._holder = Child("machine", argv, folder / "machine.log")

    def __repr__(self) -> str:
        return f"<Machine {self.folder.name}>"

    @property
    def root(self) -> Path:
        """Its file system, as others see it."""
        return Path(f"/proc/{self._holder.pid}/root")

    def begin(self) -> None:
        self._holder.start()
        self._holder.wait_ready(self._ready.exists, START_S_MAX)

    def run(self, text: str, environ: dict[str, str], timeout_s: float = 100.0) -> str:
        """What the commands print. Fails the test when they fail."""
        known = {name: os.environ[name] for name in os.environ if name.startswith(("PIP_", "SSL_"))}
        known |= {"HOME": str(self.home), **environ}
        known["PATH"] = f"{STANDINS}:/opt/wallet/.venv/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        enter = (
            "nsenter",
            "--target",
            str(self._holder.pid),
            "--mount",
            "--uts",
            "--net",
            f"--wd={self.home}",
        )
        done = subprocess.run(
            (*enter, "bash", "-euo", "pipefail", "-c", text),
            capture_output=True,
            text=True,
            env=known,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, (
            f"{self} ended with {done.returncode}:\n{text}\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def units(self) -> list[str]:
        """Those that were started and not stopped, in that order."""
        found = (self.root / "run" / "units").glob("*.pid")
        return [path.stem for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]

    def fall(self) -> None:
        """All of its units die at once."""
        pids = [int((self.root / f"run/units/{unit}.pid").read_text()) for unit in self.units()]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(_lives, pids)), "the units are dead", START_S_MAX)

    def rise(self) -> None:
        self.run(f"systemctl start {' '.join(self.units())}", {})

    def said(self) -> str:
        """The end of every unit's log."""
        logs = sorted((self.root / "run" / "units").glob("*.log"))
        return "\n".join(f"{self} {log.stem}:\n{log.read_text(errors='replace')[-600:]}" for log in logs)

    def end(self) -> None:
        if self._holder.alive:
            self.fall()
            self._holder.kill()


def _lives(pid: int) -> bool:
    """A dead child that nobody waits for is a zombie until this container's first process has seen it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass
class Machines:
    """`hosts` and `here`, the machine of the person who sets them up."""

    hosts: list[Machine]
    here: Machine
    environ: dict[str, str]

    def walk(self, blocks: Sequence[Block]) -> list[tuple[float, str]]:
        """Run each block in its places, in the document's order; returns the seconds and the first line of each."""
        spent = []
        for block in blocks:
            began_s = time.monotonic()
            for place in block.places:
                for machine, environ in self._at(place):
                    machine.run(block.text, {**self.environ, **environ})
            spent.append((time.monotonic() - began_s, block.text.splitlines()[0]))
        return spent

    def _at(self, place: str) -> list[tuple[Machine, dict[str, str]]]:
        numbered = [(machine, {"N": str(number)}) for number, machine in enumerate(self.hosts, 1)]
        return {"your-machine": [(self.here, {})], "every-host": numbered}[place]

    def said(self) -> str:
        return "\n".join(machine.said() for machine in self.hosts)


@contextmanager
def machines(count: int, folder: Path, source: Path, wheels: Path) -> Iterator[Machines]:
    """`count` hosts with the repository's files at /opt/wallet/src. pip installs from `wheels`."""
    with ExitStack() as stack:
        places = stack.enter_context(hosts(count, folder))
        found = [Machine(host.folder, host) for host in places]
        here = Machine(folder / "here", None)
        for machine in (*found, here):
            _copy_repository(source, machine.folder / "opt" / "wallet" / "src")
            stack.callback(machine.end)
            machine.begin()
        known = folder / "machines"
        known.write_text("".join(f"{m.host.address} {m.root}\n" for m in found if m.host is not None))
        environ = {"MACHINES": str(known), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
        yield Machines(found, here, environ)


def _copy_repository(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for name in ("wallet_engine", "lua", "cluster_config", "docs"):
        shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.lock", "README.md"):
        shutil.copy(source / name, target / name)
