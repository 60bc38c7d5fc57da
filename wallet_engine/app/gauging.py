"""Figures of work that may hang: they are looked at beside it, so that they go on while it does not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def gauged(look: Callable[[], Awaitable[object]], every_s: float) -> AsyncIterator[None]:
    """Have `look` called once every so often meanwhile; a disk that fails it is told of by the work itself."""

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
