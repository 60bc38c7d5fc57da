"""Leaves requests half done: their debits are made, and no service drives their credits."""

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from support.dev_process import DevCluster, end
from support.http_client import HttpClient, NoReply
from support.redis_peek import newest_open
from support.stopped import stopped

DEBITED_S_MAX = 30.0


def strand(
    cluster: DevCluster, partitions: int, payers_at: Sequence[int], requests: Sequence[tuple[str, Any]]
) -> None:
    """Post the requests (path, body) so that their debits, in each of `payers_at`, are made and nothing follows.

    The journal hangs while the first API process debits, so that the process gets no receipt and sends no credit. Then
    the process is killed. The supervisor stays stopped and does not restart it, until the caller sends it SIGCONT.
    """
    assert cluster.process is not None
    journal = cluster.living("journal")
    doomed = cluster.living("api-1")["pid"]
    cluster.process.send_signal(signal.SIGSTOP)
    try:
        with stopped(journal):
            asyncio.run(_debit_and_kill(cluster, partitions, payers_at, requests, doomed))
    except BaseException:
        cluster.process.send_signal(signal.SIGCONT)
        raise


async def _debit_and_kill(
    cluster: DevCluster,
    partitions: int,
    payers_at: Sequence[int],
    requests: Sequence[tuple[str, Any]],
    doomed: int,
) -> None:
    async with HttpClient() as http:

        async def ask(path: str, body: Any) -> None:
            with suppress(NoReply):
                reply = await http.post(f"{cluster.url}{path}", body)
                raise AssertionError(f"was answered: {reply}")

        before = {p: await asyncio.to_thread(newest_open, cluster, p, partitions) for p in payers_at}
        asking = [asyncio.create_task(ask(path, body)) for path, body in requests]
        deadline = time.monotonic() + DEBITED_S_MAX
        # Compare seqs: the number of open entries may fall meanwhile.
        while any(
            [await asyncio.to_thread(newest_open, cluster, p, partitions) <= before[p] for p in payers_at]
        ):
            assert time.monotonic() < deadline, "no debit was made"
            await asyncio.sleep(0.02)
        end(doomed)
        await asyncio.gather(*asking)
