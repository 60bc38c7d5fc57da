"""Traces are sent only when configured. Otherwise they cost nothing, not even an installed package."""

import asyncio
import subprocess
import sys

import pytest

from wallet_engine.app.tracing import Telling, told
from wallet_engine.domain.errors import ConfigError
from wallet_engine.engine.engine import Engine
from wallet_engine.http.gate import Visit
from wallet_engine.http.visits import LoggedVisit

NEEDS_MORE = ("wallet_engine.telemetry.spans", "wallet_engine.engine.traced", "wallet_engine.http.traced")
PLAIN = (Engine, Visit)


def telling(endpoint: str | None, log_level: str = "info") -> Telling:
    async def looked() -> Telling:
        async with told(endpoint, "api-1", log_level) as found:
            return found

    return asyncio.run(looked())


@pytest.fixture
def _without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NEEDS_MORE:
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_without_packages")
def test_without_the_packages_it_is_said_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert telling(None) == PLAIN
    assert telling(None, "debug") == (Engine, LoggedVisit)
    with pytest.raises(ConfigError, match=r"pip install 'wallet-engine\[otel\]'"):
        telling("http://127.0.0.1:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")  # meant for other programs
    assert telling(None) == PLAIN


def test_nothing_of_it_is_imported_unasked() -> None:
    program = "import sys, wallet_engine.app.serve; print('opentelemetry.sdk.trace' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
