"""A freeze waits for the last entry on a quorum of journal copies, and for no other copy."""

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import repeat

import pytest

from wallet_engine.admin.moving.driver import FREEZE_S_MAX
from wallet_engine.admin.moving.durable import wait_durable
from wallet_engine.admin.moving.wire import Setback
from wallet_engine.journal.link_wire import CopyHello, encode
from wallet_engine.routing.model import JournalInfo

PARTITION, SEQ, NONCE = 3, 17, "00000000000000aa"


@contextmanager
def copy(name: str, *, answers: bool = True, seqs: Iterable[int] | None = None) -> Iterator[JournalInfo]:
    """A journal copy that has the entry, or `seqs` one after the other; without `answers`, a stopped process."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            for seq in repeat(SEQ) if seqs is None else seqs:
                link, _ = listener.accept()
                with link:
                    link.sendall(encode(CopyHello(name, [(PARTITION, seq, NONCE)])))

    if answers:
        threading.Thread(target=serve, daemon=True).start()
    try:
        yield JournalInfo(name, f"127.0.0.1:{listener.getsockname()[1]}", "/j", 1, "h")
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize("silent", ["j1", "j2", "j3"])
def test_a_copy_that_does_not_answer_delays_no_move(silent: str) -> None:
    """It took a second wherever it stood in the list, more than a freeze may last: no move ever ended."""
    with ExitStack() as stack:
        copies = [stack.enter_context(copy(name, answers=name != silent)) for name in ("j1", "j2", "j3")]
        began_s = time.monotonic()
        wait_durable(copies, 2, PARTITION, SEQ, NONCE, FREEZE_S_MAX)
        assert time.monotonic() - began_s < FREEZE_S_MAX


def test_too_few_copies_are_a_setback_in_time() -> None:
    with copy("j1") as one, copy("j2", seqs=repeat(SEQ - 1)) as behind, copy("j3", answers=False) as silent:
        began_s = time.monotonic()
        with pytest.raises(Setback, match="entry 17 is on 1 journal copies, 2 are needed"):
            wait_durable([silent, behind, one], 2, PARTITION, SEQ, NONCE, FREEZE_S_MAX)
        assert time.monotonic() - began_s < FREEZE_S_MAX + 0.5


def test_an_entry_that_comes_to_disk_meanwhile_is_seen() -> None:
    seqs = iter([SEQ - 1, SEQ - 1, *[SEQ] * 1000])
    with copy("j1", answers=False) as silent, copy("j2", seqs=seqs) as late, copy("j3") as one:
        wait_durable([silent, late, one], 2, PARTITION, SEQ, NONCE, FREEZE_S_MAX)


def test_a_partition_without_entries_waits_for_nothing() -> None:
    wait_durable([], 2, PARTITION, 0, NONCE, FREEZE_S_MAX)
