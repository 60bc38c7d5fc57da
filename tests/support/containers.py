"""A private Docker daemon, and Debian images by `debootstrap` that stand in for images that cannot be pulled here.

Needs root, `dockerd`, `docker`, `docker-compose` and `debootstrap`, and a mirror of Debian's packages.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wallet_engine.dev.process import Child

PROGRAMS: Final = ("dockerd", "docker", "docker-compose", "debootstrap", "tar")
START_S_MAX: Final = 60.0
MIRROR: Final = "http://deb.debian.org/debian"
#: A folder that keeps what debootstrap has made, for the next run.
ROOTS_VARIABLE: Final = "WALLET_TEST_ROOTS"
_JARS: Final = (
    "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar:/usr/share/java/netty-codec.jar"
)
_NEVER_USED: Final = ("usr/share/doc", "usr/share/locale", "var/cache/apt/archives", "var/lib/apt/lists")


@dataclass(frozen=True)
class StandIn:
    """An image of Debian's packages. `folders`: folder -> the user that owns it, as in the image it stands for."""

    suite: str
    packages: tuple[str, ...]
    folders: dict[str, int] = field(default_factory=dict)
    changes: tuple[str, ...] = ()


#: By the name of the image that each stands in for.
IMAGES: Final = {
    "valkey/valkey:8.1-trixie": StandIn("trixie", ("valkey-server", "valkey-tools"), {"data": 999}),
    "python:3.11-slim-bookworm": StandIn(
        "bookworm", ("python3", "python3-pip", "python-is-python3", "ca-certificates")
    ),
    "zookeeper:3.8": StandIn(
        "bookworm",
        ("openjdk-17-jre-headless", "libzookeeper-java", "libnetty-java"),
        {"conf": 0, "data": 1000, "datalog": 1000},
        (
            f'CMD ["java", "-Xmx128m", "-cp", "{_JARS}", '
            '"org.apache.zookeeper.server.quorum.QuorumPeerMain", "/conf/zoo.cfg"]',
        ),
    ),
}


class Docker:
    """A daemon with everything it keeps in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        argv = (
            "dockerd",
            "--iptables=false",
            "--ip6tables=false",
            f"--data-root={folder / 'data'}",
            f"--exec-root={folder / 'exec'}",
            f"--pidfile={folder / 'docker.pid'}",
            f"--host=unix://{self.socket}",
        )
        self._daemon = Child("dockerd", argv, folder / "dockerd.log")

    def begin(self) -> None:
        self._daemon.start()
        self._daemon.wait_ready(self._answers, START_S_MAX)

    def _answers(self) -> bool:
        return self._call("docker", "info").returncode == 0

    def _call(self, *argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "HOME": str(self.folder)}
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=environ, cwd=cwd)

    def run(self, *argv: str, cwd: Path | None = None) -> str:
        done = self._call(*argv, cwd=cwd)
        assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def make(self, name: str, stand_in: StandIn) -> None:
        """The image of that name, made of Debian's packages."""
        root = self._root(name, stand_in)
        changes = [word for change in stand_in.changes for word in ("--change", change)]
        environ = {**os.environ, "DOCKER_HOST": f"unix://{self.socket}"}
        pack = ("tar", "--directory", str(root), "--create", ".")
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as packed:
            done = subprocess.run(
                ("docker", "import", *changes, "-", name), stdin=packed.stdout, env=environ, check=False
            )
        assert (packed.returncode, done.returncode) == (0, 0), name

    def _root(self, name: str, stand_in: StandIn) -> Path:
        kept = Path(os.environ.get(ROOTS_VARIABLE) or self.folder)
        root = kept / f"root-{name.replace('/', '-').replace(':', '-')}"
        if not root.exists():
            fresh = root.with_name(f"{root.name}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            wanted = f"--include={','.join(stand_in.packages)}"
            self.run("debootstrap", "--variant=minbase", wanted, stand_in.suite, str(fresh), MIRROR)
            for folder in _NEVER_USED:
                shutil.rmtree(fresh / folder, ignore_errors=True)
            for folder, owner in stand_in.folders.items():
                (fresh / folder).mkdir(exist_ok=True)
                os.chown(fresh / folder, owner, owner)
            # The authorities that this machine trusts, so that pip reaches the packages from inside.
            bundle = Path("/etc/ssl/certs/ca-certificates.crt")
            if (fresh / "usr/bin/pip").exists():
                shutil.copy(bundle, fresh / bundle.relative_to("/"))
                for guard in (fresh / "usr/lib").glob("python3.*/EXTERNALLY-MANAGED"):
                    guard.unlink()  # python:3.11-slim has its own Python, which no package manager owns
            fresh.rename(root)
        return root

    def end(self) -> None:
        """Stop the daemon; leaves no process, mount or file."""
        self._daemon.stop()
        for line in Path("/proc/mounts").read_text().splitlines()[::-1]:
            where = line.split(" ")[1]
            if where.startswith(f"{self.folder}/"):
                subprocess.run(("umount", where), check=True)
        for name in ("data", "exec"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


def missing(programs: Sequence[str] = PROGRAMS) -> str:
    """Why there can be no Docker here; "" when there can."""
    if os.geteuid():
        return "containers are for root"
    lacking = [name for name in programs if shutil.which(name) is None]
    return (
        f"{', '.join(lacking)} missing: apt-get install docker.io docker-compose debootstrap"
        if lacking
        else ""
    )


@contextmanager
def docker(folder: Path) -> Iterator[Docker]:
    found = Docker(folder)
    try:
        found.begin()
        yield found
    finally:
        found.end()
