"""The client for administration: a command without an answer may have run, so it is not sent again."""

import socket
import threading

import pytest
from redis.exceptions import ConnectionError, TimeoutError

from wallet_engine.redis_store.topology import connect


@pytest.mark.parametrize("hangs_up", [True, False])
def test_a_command_without_an_answer_is_sent_once(hangs_up: bool) -> None:
    """A library that retries by itself would count twice."""
    received: list[bytes] = []

    def take(server: socket.socket) -> None:
        while True:
            try:
                link, _ = server.accept()
            except OSError:
                return
            with link:
                while data := link.recv(65536):
                    received.append(data)
                    if b"HINCRBY" in data:
                        if hangs_up:
                            break
                    else:
                        link.sendall(b"+OK\r\n" * data.count(b"SETINFO"))

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=take, args=(server,), daemon=True).start()
        with (
            connect(f"127.0.0.1:{server.getsockname()[1]}", timeout_s=0.3) as client,
            pytest.raises((ConnectionError, TimeoutError)),
        ):
            client.hincrby("balance", "ann", 1)
        server.shutdown(socket.SHUT_RDWR)
    assert b"".join(received).count(b"HINCRBY") == 1
