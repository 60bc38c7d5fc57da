"""Fixtures: the application on a wallet double."""

import logging
from collections.abc import Iterator

import pytest
import structlog
from starlette.types import ASGIApp
from unit.http.wallet_double import WalletDouble

from wallet_engine.http.application import create_app


@pytest.fixture
def wallet() -> WalletDouble:
    return WalletDouble()


@pytest.fixture
def app(wallet: WalletDouble) -> ASGIApp:
    return create_app(wallet)


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Restores the logging configuration after a test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
