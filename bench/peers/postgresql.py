"""The peer PostgreSQL, with one set-based function: the books of `postgresql.sql`."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from bench.funding import funds_of, funds_total
from bench.peers.base import PeerFailed, PeerMissing, Send
from bench.ring import Request, chunks, declined_of
from bench.workload import Pair, account_name
from wallet_engine.dev.ports import free_port
from wallet_engine.dev.process import Child, StartFailed

START_S_MAX: Final = 60.0
COMMAND_S_MAX: Final = 120.0
#: The server refuses to run as root; Debian's package makes this user.
UNPRIVILEGED: Final = "postgres"
_FUNDING_CHUNK: Final = 50_000
_SQL: Final = Path(__file__).with_name("postgresql.sql")
#: Usual settings for a dedicated machine. All of them keep durability.
SETTINGS: Final = {
    "synchronous_commit": "on",
    "fsync": "on",
    "full_page_writes": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "max_connections": "200",
}


def find_postgresql() -> Path:
    """The folder with `initdb` and `postgres`: from the PATH, else the newest installed. Raises `PeerMissing`."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if not versions:
        raise PeerMissing("no PostgreSQL server here: apt-get install postgresql")
    return max(versions, key=lambda path: int(path.parent.name.partition(".")[0]))


def load_client() -> Any:
    """The module `asyncpg`, imported only for this peer. Raises `PeerMissing`."""
    try:
        import asyncpg
    except ModuleNotFoundError:
        raise PeerMissing("no Python client of PostgreSQL here: pip install asyncpg") from None
    return asyncpg


class PostgreSql:
    """Implements `Peer`: a new server on a free port. Its data are in the folder that `start` gets."""

    name = "postgresql"
    durability = "synchronous_commit=on, fsync=on, one WAL flush per group of commits"
    callers: ClassVar[Mapping[int, int]] = {1: 32, 10: 32, 100: 8, 1000: 4, 8000: 2}

    def __init__(self) -> None:
        self._server: Child | None = None
        self._version = ""
        self._folder = Path()
        self._port = 0
        #: The module `asyncpg`, from `start` on.
        self._client: Any = None
        self._connections: list[Any] = []

    @property
    def version(self) -> str:
        return self._version

    def start(self, folder: Path) -> None:
        binaries, self._client = find_postgresql(), load_client()
        self._folder, self._port = folder / "pg", free_port()
        self._folder.mkdir()
        self._version = _output([str(binaries / "postgres"), "--version"])
        if os.getuid() == 0:
            shutil.chown(self._folder, UNPRIVILEGED)
            folder.chmod(0o711)  # so that this user can reach its own folder inside
        data = self._folder / "data"
        initdb = [*_unprivileged(), str(binaries / "initdb"), "--pgdata", str(data), "--auth", "trust"]
        _output([*initdb, "--username", "bench", "--encoding", "UTF8", "--locale", "C"])
        settings = {
            **SETTINGS,
            "port": str(self._port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._folder),
        }
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        argv = [*_unprivileged(), str(binaries / "postgres"), "-D", str(data), *flags]
        self._server = Child("postgresql", argv, folder / "postgresql.log")
        self._server.start()
        ready = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        self._server.wait_ready(lambda: subprocess.run(ready, check=False).returncode == 0, START_S_MAX)

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(grace_s=30)

    def pids(self) -> list[int]:
        """The postmaster and its present children."""
        if self._server is None:
            return []
        postmaster = self._server.pid
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text("utf-8").split()
        return [postmaster, *map(int, children)]

    def bytes_on_disk(self) -> int:
        """Bytes of write-ahead log written until now. The size of its files says little: they are reused."""
        return int(_output(self._psql("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")))

    def _psql(self, query: str) -> list[str]:
        connection = f"host=127.0.0.1 port={self._port} user=bench dbname=postgres"
        return [str(find_postgresql() / "psql"), "-X", "-A", "-t", "-d", connection, "-c", query]

    async def fund(self, accounts: int) -> None:
        connection = await self._connect()
        try:
            await connection.execute(_SQL.read_text("utf-8"))
            total = funds_total(accounts)
            await connection.execute("INSERT INTO accounts VALUES ('@bank', $1)", -total)
            for start in range(0, accounts, _FUNDING_CHUNK):
                numbers = range(start, min(start + _FUNDING_CHUNK, accounts))
                rows = [(account_name(number), funds_of(number, accounts)) for number in numbers]
                await connection.copy_records_to_table("accounts", records=rows)
            await connection.execute("VACUUM ANALYZE accounts")
            await connection.execute("CHECKPOINT")
        finally:
            await connection.close()

    def requests(self, pairs: Sequence[Pair], batch: int) -> list[Request[Any]]:
        made = []
        for part in chunks(pairs, batch):
            tails = [os.urandom(12).hex() for _ in part]
            froms = [account_name(pair.sender) for pair in part]
            tos = [account_name(pair.receiver) for pair in part]
            amounts = [pair.amount_minor for pair in part]
            made.append(Request((tails, froms, tos, amounts), len(part), declined_of(part)))
        return made

    async def connect(self) -> Send:
        connection = await self._connect()
        self._connections.append(connection)
        prepared = await connection.prepare("SELECT transfer_many($1, $2, $3, $4)")

        async def send(payload: Any, number: int) -> tuple[int, int]:
            tails, froms, tos, amounts = payload
            head = f"{number:08x}"
            try:
                outcomes = await prepared.fetchval([head + tail for tail in tails], froms, tos, amounts)
            except self._client.PostgresError as error:
                raise PeerFailed(f"PostgreSQL refused: {error}") from None
            return outcomes.count(b"+"), outcomes.count(b"i")

        return send

    async def disconnect(self) -> None:
        connections, self._connections = self._connections, []
        await asyncio.gather(*(connection.close() for connection in connections))

    async def faults(self, accounts: int, succeeded: int) -> list[str]:
        connection = await self._connect()
        try:
            total, users = await connection.fetchrow(
                "SELECT sum(balance)::bigint, count(*) FILTER (WHERE id NOT LIKE '@%') FROM accounts"
            )
            paid = await connection.fetchval("SELECT count(*) FROM transfers WHERE outcome = '+'")
            wrong = await connection.fetchval(
                "SELECT count(*) FROM accounts JOIN (SELECT account, sum(change) AS change FROM ("
                "SELECT to_account, amount FROM transfers WHERE outcome = '+' UNION ALL "
                "SELECT from_account, -amount FROM transfers WHERE outcome = '+') s(account, change) "
                "GROUP BY account) moved ON id = account "
                "WHERE balance <> change + CASE WHEN id = $1 THEN $2::bigint ELSE $3::bigint END",
                *(account_name(0), funds_of(0, accounts), funds_of(1, accounts)),
            )
        finally:
            await connection.close()
        faults = []
        if total:
            faults.append(f"all balances sum to {total}")
        if users != accounts:
            faults.append(f"there are {users} accounts instead of {accounts}")
        if paid != succeeded:
            faults.append(f"{paid} transfers are recorded, {succeeded} succeeded")
        if wrong:
            faults.append(f"{wrong} balances are not what their transfers make")
        return faults

    async def _connect(self) -> Any:
        return await self._client.connect(
            host="127.0.0.1",
            port=self._port,
            user="bench",
            database="postgres",
            command_timeout=COMMAND_S_MAX,
        )


def _unprivileged() -> list[str]:
    """The prefix of a command that must not run as root."""
    return (
        ["setpriv", f"--reuid={UNPRIVILEGED}", f"--regid={UNPRIVILEGED}", "--init-groups"]
        if os.getuid() == 0
        else []
    )


def _output(argv: list[str]) -> str:
    try:
        done = subprocess.run(
            argv, capture_output=True, encoding="utf-8", check=True, timeout=COMMAND_S_MAX, cwd="/"
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or error
        raise StartFailed(f"{Path(argv[0]).name} failed: {said}") from None
    return done.stdout.strip()


def main() -> int:
    """Print which server would be measured. Returns 1 when there is none."""
    try:
        print(f"PostgreSQL in {find_postgresql()}")
    except PeerMissing as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
