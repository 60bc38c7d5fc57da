"""The keys of a cluster that `dev --auth` made: one for each role, in files that only their owner can read.

keys.json   {"admin": "wk_…", "payer": "wk_…", …}
admin.env   what `wallet-admin` needs, as `NAME=value` lines for a shell: set -a; . DIR/admin.env
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from wallet_engine.dev.files import replace_file
from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.api_keys import ApiKey, Role, new_key
from wallet_engine.routing.directory import Directory
from wallet_engine.service.keyring import Keyring, Unauthenticated

#: Names of these keys begin so.
_NAME_BEGIN: Final = "dev"
OWNER_ONLY: Final = 0o600


def provide_keys(directory: Directory, data_dir: Path, environment: Mapping[str, str]) -> None:
    """See to it that there is a key for every role, and write both files; what is there and good stays.

    `environment` is what `wallet-admin` needs besides the key.
    """
    path = data_dir / "keys.json"
    shown = _read(path)
    ring = Keyring()
    ring.replace(directory.api_keys.all() or {})
    for role in Role:
        if not _is_good(ring, shown.get(role.value)):
            shown[role.value] = _make(directory, role)
    replace_file(path, msgspec.json.format(msgspec.json.encode(shown)) + b"\n", mode=OWNER_ONLY)
    lines = {**environment, "WALLET_KEY": shown[Role.ADMIN]}
    text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in lines.items())
    replace_file(data_dir / "admin.env", text.encode(), mode=OWNER_ONLY)


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
    """A key of that role, in place of one of an earlier start that nobody has any more."""
    name = f"{_NAME_BEGIN}-{role.value}"
    key, shown = new_key(ApiKey(id="", name=name, role=role))

    def edit(keys: dict[str, ApiKey]) -> None:
        for old in [old for old in keys.values() if old.name == name]:
            del keys[old.id]
        keys[key.id] = key

    directory.api_keys.change(edit)
    return shown
