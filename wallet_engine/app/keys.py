"""Keeps the API keys of a process up to date, and notes when keys were used."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from wallet_engine.domain.errors import WalletError
from wallet_engine.routing.directory import Directory, on_loop
from wallet_engine.service.keyring import FORGET_S, Keyring
from wallet_engine.telemetry.logging import get_logger

#: Least time between two notes of the use of one key.
NOTE_USED_S_MIN: Final = 60.0

log = get_logger(__name__)


@asynccontextmanager
async def watched_keyring(directory: Directory, *, insecure: bool) -> AsyncIterator[Keyring]:
    """The keyring of this cluster, kept up to date during the block. Raises `WalletError`."""
    config = await asyncio.to_thread(directory.config)
    keyring = Keyring(config.system_accounts, insecure=insecure)
    # Read before the first caller is let in: the watch reports later changes.
    keyring.replace(await asyncio.to_thread(directory.api_keys.all))
    changed = on_loop(asyncio.get_running_loop(), keyring.replace)
    unwatch = await asyncio.to_thread(directory.api_keys.watch, changed)
    # Two tasks: while ZooKeeper is away, each note takes seconds, and a key that has expired must not count meanwhile.
    tending = (
        asyncio.create_task(_forget(keyring), name="keyring"),
        asyncio.create_task(_note_used(directory, keyring), name="keys-used"),
    )
    try:
        yield keyring
    finally:
        unwatch()
        for task in tending:
            task.cancel()
        await asyncio.gather(*tending, return_exceptions=True)


async def _forget(keyring: Keyring) -> None:
    while True:
        await asyncio.sleep(FORGET_S)
        keyring.forget()


async def _note_used(directory: Directory, keyring: Keyring) -> None:
    noted_s: dict[str, float] = {}
    while True:
        await asyncio.sleep(FORGET_S)
        used, keyring.used = keyring.used, set()
        now_s = time.monotonic()
        for key_id in [key for key in used if now_s - noted_s.get(key, -NOTE_USED_S_MIN) >= NOTE_USED_S_MIN]:
            noted_s[key_id] = now_s
            try:
                at_ms = time.time_ns() // 1_000_000
                await asyncio.to_thread(directory.api_keys.note_used, key_id, at_ms)
            except WalletError as error:  # the next use will be noted
                log.debug("the use of a key was not noted", key=key_id, error=str(error))
