"""Keeps metrics of work up to date while that work hangs, in a task of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def gauged(look: Callable[[], Awaitable[object]], every_s: float) -> AsyncIterator[None]:
    """Call `look` regularly during the block. It ignores OSErrors: the work itself reports them."""

    async def run() -> None:
        while True:
            with suppress(OSError):
                await look()
            await asyncio.sleep(every_s)

    looking = asyncio.create_task(run())
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
