"""Runs a command on a terminal of some width, and collects all that it writes there."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence

TERMINAL_S_MAX = 60.0


def on_terminal(
    argv: Sequence[str], columns: int, environ: Mapping[str, str], *, interrupt_at: bytes = b""
) -> str:
    """What it wrote until it ended; it gets a Ctrl-C when `interrupt_at` has been written."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        argv,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=dict(environ),
        start_new_session=True,
        preexec_fn=_heeds_interrupts,
    )
    os.close(theirs)
    said, until_s = b"", time.monotonic() + TERMINAL_S_MAX
    try:
        while time.monotonic() < until_s:
            if not select.select([ours], [], [], 0.1)[0]:
                continue
            try:
                said += os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if interrupt_at and interrupt_at in said:
                process.send_signal(signal.SIGINT)
        else:
            raise AssertionError(f"{argv} does not end: {said!r}")
        process.wait(TERMINAL_S_MAX)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return said.decode()


def _heeds_interrupts() -> None:
    """Heed Ctrl-C, as when a person starts it: a shell sets it ignored for what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
