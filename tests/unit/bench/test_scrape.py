"""Reads metrics of processes that are busy with a benchmark."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from bench import scrape

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\nwallet 7"


@contextmanager
def busy_server(ignored: int) -> Iterator[str]:
    """A server that does not answer the first `ignored` connections, and answers later ones."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def serve() -> None:
        for number in range(ignored + 1):
            try:
                link, _ = listener.accept()
            except OSError:
                return
            taken.append(link)
            if number >= ignored:
                link.recv(4096)
                link.sendall(_ANSWER)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with closing(listener):
            yield "{}:{}".format(*listener.getsockname())
            listener.shutdown(socket.SHUT_RDWR)
    finally:
        thread.join()
        for link in taken:
            link.close()


def test_a_process_that_is_too_busy_to_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "_TIMEOUT_S", 0.2)
    with busy_server(ignored=2) as address:
        assert scrape.scrape(address) == "wallet 7"


def test_one_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "_TIMEOUT_S", 0.05)
    with busy_server(ignored=50) as address, pytest.raises(OSError, match="timed out"):
        scrape.scrape(address)
