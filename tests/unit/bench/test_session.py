"""Stopping the benchmark stops all that it started."""

import signal

import pytest

from bench.commands import session


def test_a_second_sigterm_does_not_interrupt_the_stop_that_the_first_has_begun() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, session._terminated)
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(signal.SIGTERM)
        assert ended.value.code == 128 + signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
