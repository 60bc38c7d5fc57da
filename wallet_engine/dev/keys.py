"""The API keys of `dev --auth`, one for each role, in a file that only its owner can read.

keys.json   {"admin": "wk_…", "payer": "wk_…", …}
"""

from pathlib import Path
from typing import Final

import msgspec

from wallet_engine.dev.files import replace_file
from wallet_engine.dev.state import OWNER_ONLY
from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.api_keys import ApiKey, Role, new_key
from wallet_engine.routing.directory import Directory
from wallet_engine.service.keyring import Keyring, Unauthenticated

#: The names of these keys begin with this and a hyphen.
_NAME_BEGIN: Final = "dev"


def provide_keys(directory: Directory, data_dir: Path) -> str:
    """Make the keys that are missing or no longer valid, and write the file. Returns the key of the role `admin`.

    Raises `ConfigError` when the file cannot be read, and OSError when it cannot be written.
    """
    path = data_dir / "keys.json"
    shown = _read(path)
    ring = Keyring()
    ring.replace(directory.api_keys.all() or {})
    for role in Role:
        if not _is_good(ring, shown.get(role.value)):
            shown[role.value] = _make(directory, role)
    replace_file(path, msgspec.json.format(msgspec.json.encode(shown)) + b"\n", mode=OWNER_ONLY)
    return shown[Role.ADMIN]


def _read(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None


def _is_good(ring: Keyring, shown: str | None) -> bool:
    try:
        return shown is not None and bool(ring.whose(f"Bearer {shown}".encode()).id)
    except Unauthenticated:
        return False


def _make(directory: Directory, role: Role) -> str:
    """Make a key of this role. It replaces the key of the same name from an earlier start."""
    name = f"{_NAME_BEGIN}-{role.value}"
    key, shown = new_key(ApiKey(id="", name=name, role=role))

    def edit(keys: dict[str, ApiKey]) -> None:
        for old in [old for old in keys.values() if old.name == name]:
            del keys[old.id]
        keys[key.id] = key

    directory.api_keys.change(edit)
    return shown
