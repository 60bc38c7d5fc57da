"""Calls that outlive the request that made them."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Uncancelled:
    """Runs calls that change something to their end, even if the request that waits for them is cancelled.

    uvicorn lets a handler run on when its client hangs up, but cancels it when a shutdown takes too long. Other ASGI
    servers cancel sooner.
    """

    def __init__(self) -> None:
        # The event loop itself has only weak references to tasks.
        self._running: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<Uncancelled running={len(self._running)}>"

    def start(self, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `call`, whether or not anybody keeps the task."""
        task = asyncio.create_task(call)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def run(self, call: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """The result of `call`; cancelling the returned future does not cancel `call`."""
        return asyncio.shield(self.start(call))
