"""G13: a key that has expired is refused, also while ZooKeeper does not take the notes of its use."""

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from wallet_engine.app import keys as module
from wallet_engine.app.keys import watched_keyring
from wallet_engine.routing.api_keys import ApiKey, Role, new_key
from wallet_engine.service.keyring import Unauthenticated


def test_g13_a_key_expires_while_zookeeper_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORGET_S", 0.05)
    expires_ms = time.time_ns() // 1_000_000 + 1_000
    key, shown = new_key(ApiKey(id="", name="shop", role=Role.PAYER, expires_ms=expires_ms))
    bearer = f"Bearer {shown}".encode()
    asked, answer = threading.Event(), threading.Event()

    def note_used(_key_id: str, _at_ms: int) -> None:
        asked.set()
        answer.wait(20)

    directory: Any = SimpleNamespace(
        config=lambda: SimpleNamespace(system_accounts=()),
        api_keys=SimpleNamespace(
            all=lambda: {key.id: key}, watch=lambda _: lambda: None, note_used=note_used
        ),
    )

    async def main() -> None:
        async with watched_keyring(directory, insecure=False) as keyring:
            try:
                assert keyring.whose(bearer).id == key.id
                async with asyncio.timeout(10):
                    while not asked.is_set():
                        await asyncio.sleep(0.01)
                if time.time_ns() // 1_000_000 < expires_ms:
                    keyring.whose(bearer)
                await asyncio.sleep(1.5)
                with pytest.raises(Unauthenticated):
                    keyring.whose(bearer)
            finally:
                answer.set()

    asyncio.run(main())
