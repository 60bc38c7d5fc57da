"""Log lines on a terminal: coloured only when colours are wanted and supported."""

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from wallet_engine.telemetry.logging import configure_logging, get_logger


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colours(environ: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    configure_logging("info", json=False)
    get_logger("test").info("moved", partition=12)
    assert "moved" in said.getvalue()
    assert ("\x1b" in said.getvalue()) == coloured
