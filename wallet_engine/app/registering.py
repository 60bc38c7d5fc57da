"""Registers an API process, however long that takes: `status`, `pause` and `freeze` find it only there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from wallet_engine.domain.errors import WalletError, text_of
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import ServiceInfo
from wallet_engine.telemetry.logging import get_logger

#: Pause after a failure: ZooKeeper is away, or another live process has this id.
RETRY_S: Final = 2.0

log = get_logger(__name__)


@asynccontextmanager
async def registering(directory: Directory) -> AsyncIterator[Callable[[ServiceInfo], None]]:
    """Gives a function that begins `register`; what is not registered at the end of the block is given up."""
    tasks: list[asyncio.Task[None]] = []
    try:
        yield lambda info: tasks.append(asyncio.create_task(register(directory, info)))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def register(directory: Directory, info: ServiceInfo) -> None:
    """Return when the process is registered. Failures are logged, and it serves meanwhile."""
    while True:
        try:
            await asyncio.to_thread(directory.register_service, info)
            return
        except WalletError as error:
            log.error("not registered", service=info.service_id, error=text_of(error), retry_s=RETRY_S)
            await asyncio.sleep(RETRY_S)
