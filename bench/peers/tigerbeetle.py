"""The peer TigerBeetle, if its server binary is given: one replica, called from Python.

The client is the PyPI package `tigerbeetle` of the server's version. It waits for ever for an answer, in native code.
So a separate process, which can be killed, asks the first question.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Final

from bench.funding import funds_of, funds_total
from bench.peers.base import PeerFailed, PeerMissing, Send
from bench.ring import Request, chunks, declined_of
from bench.workload import Pair
from wallet_engine.dev.ports import free_port, port_is_free
from wallet_engine.dev.process import Child, StartFailed

#: Time-outs of the start: together less than a minute.
COMMAND_S_MAX: Final = 10.0
START_S_MAX: Final = 15.0
ANSWER_S_MAX: Final = 15.0
#: Maximum events in one request of TigerBeetle.
EVENTS_MAX: Final = 8189
_CLUSTER: Final = 0
_LEDGER: Final = 840
_CODE: Final = 1
#: Account 1 is the bank. The benchmark's accounts follow.
_FIRST: Final = 2
_BANK: Final = 1
#: A program that asks in the same way as the measurement; its argument is the server's address.
_PROBE: Final = """
import sys, tigerbeetle, uvloop
async def ask():
    session = tigerbeetle.ClientAsync(cluster_id=0, replica_addresses=sys.argv[1])
    await session.lookup_accounts([1])
    await session.close()
uvloop.run(ask())
"""


def server_version(binary: Path) -> str:
    """The version that `tigerbeetle version` prints, such as `0.17.9`. Raises `PeerMissing`."""
    try:
        said = subprocess.run(
            [str(binary), "version"], capture_output=True, encoding="utf-8", timeout=COMMAND_S_MAX
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PeerMissing(f"{binary} cannot be run: {error}") from None
    found = re.search(r"\b(\d+\.\d+\.\d+)\b", said.stdout)
    if found is None:
        raise PeerMissing(f"{binary} does not tell its version: {said.stdout[:80]!r}")
    return found[1]


def client_of(version: str) -> Any:
    """The module `tigerbeetle`, if its version is the server's. Raises `PeerMissing`."""
    try:
        installed = metadata.version("tigerbeetle")
    except metadata.PackageNotFoundError:
        installed = "none"
    if installed != version:
        raise PeerMissing(
            f"the server is {version}, the Python client {installed}: pip install tigerbeetle=={version}"
        )
    import tigerbeetle

    return tigerbeetle


class TigerBeetle:
    """Implements `Peer`. Every caller has its own session."""

    name = "tigerbeetle"
    durability = "one replica: every prepare is written with O_DSYNC and direct I/O before it is answered"
    callers: ClassVar[Mapping[int, int]] = {1: 64, 10: 32, 100: 16, 1000: 8, EVENTS_MAX: 2}

    def __init__(self, binary: Path | None) -> None:
        self._binary = binary
        self._server: Child | None = None
        self._version = ""
        self._data = Path()
        self._address = ""
        self._client: Any = None
        self._sessions: list[Any] = []

    @property
    def version(self) -> str:
        return self._version

    def start(self, folder: Path) -> None:
        if self._binary is None:
            raise PeerMissing("its server binary was not given: --tigerbeetle PATH")
        self._version = server_version(self._binary)
        self._client = client_of(self._version)
        port = free_port()
        self._data, self._address = folder / "0_0.tigerbeetle", str(port)
        formatted = [str(self._binary), "format", f"--cluster={_CLUSTER}", "--replica=0", "--replica-count=1"]
        try:
            made = subprocess.run(
                [*formatted, str(self._data)], capture_output=True, encoding="utf-8", timeout=COMMAND_S_MAX
            )
        except subprocess.TimeoutExpired:
            raise StartFailed(f"tigerbeetle format has not ended within {COMMAND_S_MAX:.0f} s") from None
        if made.returncode:
            raise StartFailed(f"tigerbeetle format failed: {made.stderr[-300:]}")
        argv = [str(self._binary), "start", f"--addresses=127.0.0.1:{port}", str(self._data)]
        self._server = Child("tigerbeetle", argv, folder / "tigerbeetle.log")
        self._server.start()
        self._server.wait_ready(lambda: not port_is_free(port), START_S_MAX)
        self._ask_first()

    def _ask_first(self) -> None:
        """Check that the client gets an answer. Raises `StartFailed`: a server may take connections and not answer."""
        assert self._server is not None
        try:
            asked = subprocess.run(
                [sys.executable, "-c", _PROBE, self._address],
                capture_output=True,
                encoding="utf-8",
                timeout=ANSWER_S_MAX,
            )
        except subprocess.TimeoutExpired:
            what = f"its client {self._version} has had no answer within {ANSWER_S_MAX:.0f} s"
            raise StartFailed(f"{what}{self._server.last_words()}") from None
        if asked.returncode:
            said = asked.stderr.strip()[-300:]
            raise StartFailed(f"its client {self._version} failed: {said}{self._server.last_words()}")

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def pids(self) -> list[int]:
        return [] if self._server is None else [self._server.pid]

    def bytes_on_disk(self) -> int:
        """Bytes of the blocks in use: the file is sparse, with a fixed size."""
        return self._data.stat().st_blocks * 512

    async def fund(self, accounts: int) -> None:
        tb, session = self._client, self._session()
        limited = tb.AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS
        opened = [tb.Account(id=_BANK, ledger=_LEDGER, code=_CODE)]
        opened += [
            tb.Account(id=_FIRST + number, ledger=_LEDGER, code=_CODE, flags=limited)
            for number in range(accounts)
        ]
        for start in range(0, len(opened), EVENTS_MAX):
            created = await session.create_accounts(opened[start : start + EVENTS_MAX])
            _expect(created, tb.CreateAccountStatus.CREATED)
        paid = [
            self._transfer(tb.id(), _BANK, _FIRST + number, funds_of(number, accounts))
            for number in range(accounts)
        ]
        for start in range(0, accounts, EVENTS_MAX):
            created = await session.create_transfers(paid[start : start + EVENTS_MAX])
            _expect(created, tb.CreateTransferStatus.CREATED)

    def requests(self, pairs: Sequence[Pair], batch: int) -> list[Request[Any]]:
        """Ids are random, as those of the engine's callers. The number of a sending goes into their top bits."""
        return [
            Request(
                [
                    (int.from_bytes(os.urandom(11)), _FIRST + pair.sender, _FIRST + pair.receiver, pair[2])
                    for pair in part
                ],
                len(part),
                declined_of(part),
            )
            for part in chunks(pairs, batch)
        ]

    async def connect(self) -> Send:
        session, tb = self._session(), self._client
        created, exceeds = tb.CreateTransferStatus.CREATED, tb.CreateTransferStatus.EXCEEDS_CREDITS

        async def send(payload: list[tuple[int, int, int, int]], number: int) -> tuple[int, int]:
            head = (number + 1) << 88
            transfers = [self._transfer(head | tail, *sides) for tail, *sides in payload]
            results = await session.create_transfers(transfers)
            statuses = [result.status for result in results]
            if len(statuses) != len(payload):
                raise PeerFailed(
                    f"{len(statuses)} results for {len(payload)} transfers: another client's API?"
                )
            return statuses.count(created), statuses.count(exceeds)

        return send

    async def disconnect(self) -> None:
        sessions, self._sessions = self._sessions, []
        for session in sessions:
            await session.close()

    async def faults(self, accounts: int, succeeded: int) -> list[str]:
        session = self._session()
        total = 0
        for start in range(0, accounts, EVENTS_MAX):
            numbers = range(start, min(start + EVENTS_MAX, accounts))
            found = await session.lookup_accounts([_FIRST + number for number in numbers])
            if len(found) != len(numbers):
                return [f"{len(found)} of {len(numbers)} accounts are there"]
            total += sum(account.credits_posted - account.debits_posted for account in found)
        await self.disconnect()
        given = funds_total(accounts)
        return [] if total == given else [f"the accounts hold {total}, they were given {given}"]

    def _session(self) -> Any:
        session = self._client.ClientAsync(cluster_id=_CLUSTER, replica_addresses=self._address)
        self._sessions.append(session)
        return session

    def _transfer(self, transaction: int, sender: int, receiver: int, minor: int) -> Any:
        return self._client.Transfer(
            id=transaction,
            debit_account_id=sender,
            credit_account_id=receiver,
            amount=minor,
            ledger=_LEDGER,
            code=_CODE,
        )


def _expect(results: Sequence[Any], status: Any) -> None:
    wrong = [result.status for result in results if result.status != status]
    if wrong or not results:
        raise PeerFailed(f"{len(wrong)} accounts could not be made ready: {wrong[:1]}")
