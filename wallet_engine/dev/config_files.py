"""Finds the files of `cluster_config/`, in a checkout or in an installed wheel."""

from pathlib import Path

from wallet_engine.domain.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent.parent


def config_path(name: str) -> Path:
    """The path of `cluster_config/<name>`. Raises `ConfigError` when the installation does not have the file."""
    for folder in (_PACKAGE.parent / "cluster_config", _PACKAGE / "_cluster_config"):
        path = folder / name
        if path.is_file():
            return path
    raise ConfigError(f"cluster_config/{name} is not part of this installation: reinstall wallet-engine")
