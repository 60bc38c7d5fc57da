"""API keys: who callers are and what each may do. `wallet-admin key` writes them, API processes watch them.

    /wallet/keys        all keys, one JSON document. Once it exists, every caller must show a key, even after
                        every key was revoked
    /wallet/used/<id>   when the key was last used; an API process writes it about once a minute

A key is given out as `wk_<id>_<secret>`; the secret is 256 random bits in hex. Only its SHA-256 is stored, so
reading the tree does not give a usable key. During a rotation two secrets are valid.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from wallet_engine.domain.errors import ConfigError, WalletError, WrongUsage, as_usage
from wallet_engine.domain.limits import API_KEYS_BYTES_MAX, API_KEYS_MAX
from wallet_engine.domain.patterns import covers, is_pattern, is_system_pattern
from wallet_engine.routing.model import check_name, decode
from wallet_engine.routing.tree import Node, NodeExists, NodeMissing, Tree, Unsubscribe, VersionConflict
from wallet_engine.telemetry.logging import get_logger

KEYS: Final = "/wallet/keys"
USED: Final = "/wallet/used"

PREFIX: Final = "wk"
_ID_DIGITS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH: Final = 8
_SECRET_BYTES: Final = 32
#: Maximum length of a presented key; a longer one is refused without a look-up.
KEY_LENGTH_MAX: Final = 200
_ATTEMPTS_MAX: Final = 20
_PATTERNS_MAX: Final = 32

log = get_logger(__name__)


class Role(StrEnum):
    """What a key is for; `service/policy.py` says what each may do."""

    PAYER = "payer"
    TREASURY = "treasury"
    ACCOUNT_ADMIN = "account-admin"
    BANK = "bank"
    AUDITOR = "auditor"
    METRICS = "metrics"
    ADMIN = "admin"


class StoredSecret(msgspec.Struct, frozen=True):
    """SHA-256 of a secret, in hex, and until when it is valid (Unix ms; None: as long as the key)."""

    sha256: str
    ends_ms: int | None = None


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key. All fields after `role` only restrict what the role may do."""

    id: str
    name: str
    #: A `Role`; a key with an unknown role may do nothing.
    role: str
    #: Patterns of ordinary accounts, with `*` for any characters; empty: all.
    accounts: tuple[str, ...] = ()
    #: For a treasury, patterns of system accounts; empty: all that the configuration lists.
    system: tuple[str, ...] = ()
    #: Currency -> maximum minor units of one transfer. If not empty, the key may move no other currency.
    amount_max: dict[str, int] = {}  # msgspec copies it
    #: Maximum transfers a second.
    rate: float | None = None
    #: Maximum transfers that are begun and not answered.
    in_flight: int | None = None
    expires_ms: int | None = None
    created_ms: int = 0
    secrets: tuple[StoredSecret, ...] = ()

    def accepts(self, secret: str, now_ms: int) -> bool:
        """Whether this is one of the key's secrets, and valid now."""
        if self.expires_ms is not None and now_ms >= self.expires_ms:
            return False
        digest = _digest(secret)
        return any(
            hmac.compare_digest(digest, stored.sha256) and (stored.ends_ms is None or now_ms < stored.ends_ms)
            for stored in self.secrets
        )


class Presented(NamedTuple):
    """The two parts of a presented key."""

    id: str
    secret: str


def parse_key(text: str) -> Presented | None:
    """A key as it was given out; None for anything else."""
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    if len(text) > KEY_LENGTH_MAX or prefix != PREFIX or not key_id or not secret:
        return None
    return Presented(key_id, secret)


def new_key(template: ApiKey) -> tuple[ApiKey, str]:
    """`template` with a new id and secret, and the key to give out, which cannot be read again later."""
    key_id = "".join(secrets.choice(_ID_DIGITS) for _ in range(_ID_LENGTH))
    secret = secrets.token_hex(_SECRET_BYTES)
    stored = (StoredSecret(_digest(secret)),)
    made = msgspec.structs.replace(template, id=key_id, created_ms=_now_ms(), secrets=stored)
    return made, f"{PREFIX}_{key_id}_{secret}"


def rotated(key: ApiKey, old_ends_ms: int) -> tuple[ApiKey, str]:
    """`key` with a new secret, and the key to give out.

    The older secret stays valid until `old_ends_ms` at most.
    """
    secret = secrets.token_hex(_SECRET_BYTES)
    now_ms = _now_ms()
    old = [
        StoredSecret(s.sha256, old_ends_ms if s.ends_ms is None else min(s.ends_ms, old_ends_ms))
        for s in key.secrets
        if s.ends_ms is None or s.ends_ms > now_ms
    ]
    # At most two secrets are valid: the newest older one, and the new one.
    kept = (*old[-1:], StoredSecret(_digest(secret)))
    return msgspec.structs.replace(key, secrets=kept), f"{PREFIX}_{key.id}_{secret}"


def check_key(key: ApiKey, *, system_accounts: tuple[str, ...]) -> ApiKey:
    """The key; raises `ConfigError` for an invalid name or grant."""
    with as_usage():
        check_name(key.name, "name of a key")
    for pattern in key.accounts:
        if not is_pattern(pattern):
            raise WrongUsage(f"--accounts {pattern[:80]!r} is no pattern such as shop-*, or one account")
    for pattern in key.system:
        if not is_system_pattern(pattern):
            raise WrongUsage(f"--system {pattern[:80]!r} is no system account such as @fees or @bank:*")
        if not any(covers(listed, pattern) for listed in system_accounts):
            raise ConfigError(
                f"--system {pattern} is no system account of this cluster: {', '.join(system_accounts)}"
            )
    if max(len(key.accounts), len(key.system)) > _PATTERNS_MAX:
        raise WrongUsage(f"a key has at most {_PATTERNS_MAX} patterns")
    if key.system and key.role != Role.TREASURY:
        raise WrongUsage(f"--system is for the role treasury, not {key.role}")
    return key


class ApiKeys:
    """The keys in one tree. Calls are synchronous and may raise `StoreUnavailable`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def __repr__(self) -> str:
        return f"<ApiKeys {self._tree!r}>"

    def all(self) -> dict[str, ApiKey] | None:
        """Keys by id; None when none was ever made, and callers need no key."""
        node = self._tree.get(KEYS)
        return None if node is None else _keys_in(node)

    def change(self, edit: Callable[[dict[str, ApiKey]], None]) -> None:
        """Let `edit` change the keys. Raises its errors, and `ConfigError` when there are too many keys."""
        for _attempt in range(_ATTEMPTS_MAX):
            node = self._tree.get(KEYS)
            keys = {} if node is None else dict(_keys_in(node) or {})
            edit(keys)
            data = msgspec.json.encode(list(keys.values()))
            if len(keys) > API_KEYS_MAX or len(data) > API_KEYS_BYTES_MAX:
                raise ConfigError(f"there are {len(keys)} keys, {len(data)} bytes: revoke what nobody uses")
            with suppress(NodeExists, NodeMissing, VersionConflict):
                if node is None:
                    self._tree.create(KEYS, data)
                else:
                    self._tree.set(KEYS, data, node.version)
                return
        raise VersionConflict(f"{KEYS} was changed by others {_ATTEMPTS_MAX} times in a row")

    def watch(self, callback: Callable[[dict[str, ApiKey] | None], object]) -> Unsubscribe:
        """Call back with `all()` soon and after every change. Unreadable keys are logged and ignored."""

        def decoded(node: Node | None) -> None:
            try:
                callback(None if node is None else _keys_in(node))
            except WalletError as error:
                log.error("the keys are left as they were", error=str(error))

        return self._tree.watch(KEYS, decoded)

    def note_used(self, key_id: str, at_ms: int) -> None:
        """Note that the key was used at that time, unless a later use is noted already."""
        path = f"{USED}/{key_id}"
        with suppress(NodeExists, NodeMissing, VersionConflict):
            node = self._tree.get(path)
            if node is None:
                self._tree.create(path, b"%d" % at_ms)
            elif _used_ms(node) < at_ms:
                self._tree.set(path, b"%d" % at_ms, node.version)

    def used_ms(self) -> Mapping[str, int]:
        """Key id -> when it was last used, Unix ms; keys that were never used are absent."""
        nodes = ((name, self._tree.get(f"{USED}/{name}")) for name in self._tree.children(USED))
        return {name: _used_ms(node) for name, node in nodes if node is not None}

    def forget_used(self, key_id: str) -> None:
        with suppress(NodeMissing):
            self._tree.delete(f"{USED}/{key_id}")


def _keys_in(node: Node) -> dict[str, ApiKey] | None:
    return {key.id: key for key in decode(node.data, list[ApiKey], KEYS)} if node.data else None


def _used_ms(node: Node) -> int:
    return int(node.data) if node.data.isdigit() else 0


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
