"""Peers on one Redis node: a naive script for each transfer, and bare commands."""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import hiredis
import redis

from bench.doors.forms import PLACEHOLDER
from bench.funding import funds_of, funds_total
from bench.peers.base import PeerFailed, PeerMissing, Send
from bench.ring import Request, chunks, declined_of
from bench.workload import Pair, account_name
from wallet_engine.dev.binaries import RedisBinary, bundled_redis, system_redis
from wallet_engine.dev.ports import free_port
from wallet_engine.dev.process import Child
from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store.connection import pack

START_S_MAX: Final = 20.0
_FUNDING_CHUNK: Final = 10_000
BALANCES: Final = "balances{wallet}"
SEEN: Final = "seen{wallet}"

_NAIVE_LUA: Final = Path(__file__).with_name("naive.lua")


class _Caller(asyncio.Protocol):
    """One connection, with one pipeline at a time."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._replies: list[Any] = []
        self._wanted = 0
        self._done: asyncio.Future[list[Any]] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is not a subclass

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self._replies.append(reply)
        if len(self._replies) >= self._wanted and self._done is not None and not self._done.done():
            self._done.set_result(self._replies)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(PeerFailed(f"Redis closed the connection: {exc}"))

    async def pipeline(self, commands: bytes, count: int) -> list[Any]:
        """Send `count` packed commands, and return their replies. Raises `PeerFailed`."""
        assert self.transport is not None
        if self.transport.is_closing():
            raise PeerFailed("Redis closed the connection")
        self._done = asyncio.get_running_loop().create_future()
        self._replies, self._wanted = [], count
        self.transport.write(commands)
        replies = await self._done
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise PeerFailed(f"Redis refused: {reply}")
        return replies


class _RedisPeer:
    """A new Redis server. In a cluster all its keys would be in one slot."""

    callers: ClassVar[Mapping[int, int]] = {1: 64, 10: 32, 100: 16, 1000: 8, 8000: 2}
    #: Flags of `redis-server` about persistence.
    persistence: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._binary: RedisBinary | None = None
        self._server: Child | None = None
        self._folder = Path()
        self._port = 0
        self._callers: list[_Caller] = []

    @property
    def version(self) -> str:
        return str(self._binary)

    def start(self, folder: Path) -> None:
        try:
            self._binary = system_redis()
        except ConfigError:
            try:
                self._binary = bundled_redis()
            except ConfigError as error:
                raise PeerMissing(str(error)) from None
        self._folder, self._port = folder, free_port()
        argv = [
            *(str(self._binary.path), "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--save", "", "--maxmemory-policy", "noeviction", *self.persistence),
        ]
        self._server = Child("redis", argv, folder / "redis.log")
        self._server.start()
        self._server.wait_ready(self._answers, START_S_MAX)

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def pids(self) -> list[int]:
        return [] if self._server is None else [self._server.pid]

    def bytes_on_disk(self) -> int:
        return sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file())

    async def fund(self, accounts: int) -> None:
        with self._client() as client:
            for start in range(0, accounts, _FUNDING_CHUNK):
                numbers = range(start, min(start + _FUNDING_CHUNK, accounts))
                funds = {account_name(number): funds_of(number, accounts) for number in numbers}
                await asyncio.to_thread(client.hset, BALANCES, mapping=funds)

    def commands(self, pair: Pair, transaction: str) -> Iterator[bytes]:
        """The packed commands of one transfer."""
        raise NotImplementedError

    def count(self, replies: list[Any]) -> tuple[int, int]:
        """Succeeded and declined transfers of a pipeline."""
        raise NotImplementedError

    def requests(self, pairs: Sequence[Pair], batch: int) -> list[Request[Any]]:
        made = []
        for part in chunks(pairs, batch):
            commands = [
                command
                for pair in part
                for command in self.commands(pair, f"{PLACEHOLDER.decode()}-{os.urandom(14).hex()[1:]}")
            ]
            made.append(Request((b"".join(commands), len(commands)), len(part), declined_of(part)))
        return made

    async def connect(self) -> Send:
        loop = asyncio.get_running_loop()
        _, caller = await loop.create_connection(_Caller, "127.0.0.1", self._port)
        self._callers.append(caller)

        async def send(payload: tuple[bytes, int], number: int) -> tuple[int, int]:
            commands, count = payload
            return self.count(await caller.pipeline(commands.replace(PLACEHOLDER, b"%08x" % number), count))

        return send

    async def disconnect(self) -> None:
        callers, self._callers = self._callers, []
        for caller in callers:
            if caller.transport is not None:
                caller.transport.abort()

    async def faults(self, accounts: int, succeeded: int) -> list[str]:
        with self._client() as client:
            balances = await asyncio.to_thread(lambda: dict(client.hscan_iter(BALANCES, count=5_000)))
            remembered = int(client.hlen(SEEN))
        faults = []
        total, given = sum(map(int, balances.values())), funds_total(accounts)
        if total != given:
            faults.append(f"the accounts hold {total}, they were given {given}")
        if len(balances) != accounts:
            faults.append(f"there are {len(balances)} accounts instead of {accounts}")
        if remembered != succeeded:
            faults.append(f"{remembered} transfers are remembered, {succeeded} succeeded")
        return faults

    def _client(self) -> redis.Redis:
        return redis.Redis("127.0.0.1", self._port, socket_timeout=60)

    def _answers(self) -> bool:
        try:
            with self._client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class NaiveRedis(_RedisPeer):
    """One script call for each transfer, with dedupe and checks; all accounts in one slot."""

    name = "redis-naive"
    durability = "append-only file, appendfsync always (an fsync per turn of Redis' event loop)"
    persistence = ("--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0")

    def __init__(self) -> None:
        super().__init__()
        self._sha = ""

    def start(self, folder: Path) -> None:
        super().start(folder)
        with self._client() as client:
            self._sha = str(client.script_load(_NAIVE_LUA.read_text("utf-8")))

    def commands(self, pair: Pair, transaction: str) -> Iterator[bytes]:
        sender, receiver = account_name(pair.sender), account_name(pair.receiver)
        yield pack(
            ("EVALSHA", self._sha, 2, BALANCES, SEEN, transaction, sender, receiver, pair.amount_minor)
        )

    def count(self, replies: list[Any]) -> tuple[int, int]:
        return replies.count(b"+"), replies.count(b"i")


class BareRedis(_RedisPeer):
    """Three commands for each transfer, without any check: debit, credit, remember. The minimum of work in Redis."""

    name = "redis-bare"
    durability = "none: nothing is persisted, nothing is checked, a transfer is not atomic"
    persistence = ("--appendonly", "no")

    def commands(self, pair: Pair, transaction: str) -> Iterator[bytes]:
        yield pack(("HINCRBY", BALANCES, account_name(pair.sender), -pair.amount_minor))
        yield pack(("HINCRBY", BALANCES, account_name(pair.receiver), pair.amount_minor))
        yield pack(("HSET", SEEN, transaction, "+"))

    def count(self, replies: list[Any]) -> tuple[int, int]:
        return len(replies) // 3, 0
