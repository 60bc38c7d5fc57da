"""Services that drive one group each and are killed by SIGKILL before or after one of the group's operations.

Run as a program: `doomed_group.py ZOOKEEPER DOOMED`, where DOOMED is a list of `[operation, when, body]`. `operation`
counts the operations that a service sends, from 0. The service dies `before` that one leaves, or as soon as it is
`sent`, whether or not Redis and the journal have it. Each service is a fork of the program, which has only imported
the engine.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wallet_engine.domain.ids import pack_transaction_id
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.reads import Reader
from wallet_engine.routing.directory import open_directory
from wallet_engine.saga.group import Decided, GroupDriver
from wallet_engine.service.api import GroupCommand, TransferCommand
from wallet_engine.service.wallet import ClusterWallet
from wallet_engine.telemetry.metrics import Metrics

READY_S_MAX = 30.0
AT_ONCE = 4
#: By then a sent operation has mostly reached Redis.
SENT_S = 0.004


def die(zookeeper: str, doomed: Sequence[tuple[int, str, dict[str, Any]]], timeout_s: float) -> list[int]:
    """How each service ended: by the signal, or with 0 when the group has fewer operations."""
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH"))))
    run = subprocess.run(
        [sys.executable, __file__, zookeeper, json.dumps(doomed)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        timeout=timeout_s,
        check=True,
    )
    ends: list[int] = json.loads(run.stdout)
    return ends


def _command(body: dict[str, Any]) -> GroupCommand:
    packed = pack_transaction_id(body["transaction_id"])
    legs = [
        TransferCommand(
            leg["from_account"],
            leg["to_account"],
            round(float(leg["amount"]) * 100),
            leg["currency"],
            packed,
        )
        for leg in body["legs"]
    ]
    return GroupCommand(packed, tuple(legs))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _doom(operation: int, when: str) -> None:
    sends, send = iter(range(1000)), GroupDriver.send

    async def doomed(self: GroupDriver, *args: Any, **more: Any) -> Decided:
        if next(sends) != operation:
            return await send(self, *args, **more)
        if when == "before":
            _die()
        sent = asyncio.ensure_future(send(self, *args, **more))
        await asyncio.sleep(SENT_S)  # however slow the machine is, no further operation is sent
        _die()
        return await sent

    GroupDriver.send = doomed  # type: ignore[method-assign]


async def _main(zookeeper: str, operation: int, when: str, body: dict[str, Any]) -> None:
    _doom(operation, when)
    engine = Engine(open_directory(zookeeper, None), Metrics())
    wallet = ClusterWallet(engine, Reader(engine))
    await engine.start()
    async with asyncio.timeout(READY_S_MAX):
        while wallet.readiness().status != "ready":
            await asyncio.sleep(0.05)
    await wallet.transfer_group(_command(body))
    await asyncio.sleep(1)  # the home partition forgets the group a moment later
    os._exit(0)


def _fork(zookeeper: str, operation: int, when: str, body: dict[str, Any]) -> int:
    pid = os.fork()
    if not pid:
        asyncio.run(_main(zookeeper, operation, when, body))
    return pid


def _all(zookeeper: str, doomed: list[tuple[int, str, dict[str, Any]]]) -> list[int]:
    ends = []
    for first in range(0, len(doomed), AT_ONCE):
        pids = [_fork(zookeeper, *each) for each in doomed[first : first + AT_ONCE]]
        ends += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return ends


if __name__ == "__main__":
    print(json.dumps(_all(sys.argv[1], json.loads(sys.argv[2]))))
