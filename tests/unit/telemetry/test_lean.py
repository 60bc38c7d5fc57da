"""The modules that a process loads at its start: half of the cost of a short command."""

import gc
import subprocess
import sys

import pytest

from wallet_engine.telemetry.lean import uncollected, without

LOADS = """
import sys
import click
from wallet_engine.cli import main
for verb in ("serve", "journal"):
    assert main.get_command(click.Context(main), verb) is not None
print(*sys.modules)
"""


def test_a_process_loads_nothing_that_it_does_not_use() -> None:
    done = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"redis", "structlog", "uvicorn", "wallet_engine.http.server"} <= loaded
    assert not loaded & {
        "opentelemetry",
        "rich",
        "pygments",
        "psutil",
        "httpcore",
        "h11",
        "cryptography.x509",
    }


def test_what_was_hidden_is_found_again() -> None:
    with without("json", "wave"):
        with pytest.raises(ImportError):
            import json
        with pytest.raises(ImportError):
            import wave
    import json
    import wave

    assert json.loads("1") == 1
    assert wave.Error


def test_collecting_goes_on_as_before() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
