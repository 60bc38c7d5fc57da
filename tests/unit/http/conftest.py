"""The application on a wallet double."""

import pytest
from starlette.types import ASGIApp
from unit.http.wallet_double import WalletDouble

from wallet_engine.http.application import create_app


@pytest.fixture
def wallet() -> WalletDouble:
    return WalletDouble()


@pytest.fixture
def app(wallet: WalletDouble) -> ASGIApp:
    return create_app(wallet)
