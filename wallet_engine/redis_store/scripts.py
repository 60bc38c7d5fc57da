"""The Lua scripts: found in a checkout or in an installed wheel, includes resolved, digests computed."""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from wallet_engine.domain.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent.parent
_include = re.compile(r"^--@include (\S+)$", re.MULTILINE)
_plain = re.compile(r"^--@plain ?", re.MULTILINE)
_extended = re.compile(r"^--@extended ?", re.MULTILINE)
_replayed = re.compile(r"^--@replay ?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script's whole text and the SHA-1 digest under which Redis caches it."""

    name: str
    text: str
    sha: str


def _directory() -> Path:
    for candidate in (_PACKAGE / "_lua", _PACKAGE.parent / "lua"):
        if (candidate / "apply.lua").is_file():
            return candidate
    raise ConfigError(
        "the lua/ scripts are neither in the installed package nor beside it: reinstall wallet-engine"
    )


@cache
def load_script(name: str, *, replay: bool = False, extended: bool = False) -> Script:
    """The script `lua/<name>.lua`. `replay` selects the variant that re-executes recorded entries.

    `extended` selects the text that also knows holds, groups, returns and maximum balances. It includes the
    lines marked `--@extended`; the plain text includes those marked `--@plain`. The replay variant is
    extended and also includes the lines marked `--@replay`.

    The variants have different texts and so different digests: loading one never makes another callable.
    """
    directory = _directory()
    chosen = _extended if extended or replay else _plain

    def read(path: str) -> str:
        text = chosen.sub("", (directory / path).read_text("utf-8"))
        return _replayed.sub("", text) if replay else text

    def include(match: re.Match[str]) -> str:
        return _include.sub(include, read(match[1]))

    body = _include.sub(include, read(f"{name}.lua"))
    text = f"local REPLAY = {'true' if replay else 'false'}\n{body}"
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def service_scripts() -> tuple[Script, ...]:
    """The scripts that services call; loading them into a node is the last step of recovery."""
    names = ("apply", "read_account", "read_transfer", "read_hold", "read_group")
    return (*map(load_script, names), load_script("apply", extended=True))
