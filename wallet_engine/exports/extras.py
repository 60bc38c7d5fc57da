"""Imports optional modules, which only some installations have."""

import importlib
from typing import Any

from wallet_engine.domain.errors import ConfigError


def needed(module: str, extra: str, what: str) -> Any:
    """Import and return the module. Raises `ConfigError` that says how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(f"{what} needs more: pip install 'wallet-engine[{extra}]'") from None
