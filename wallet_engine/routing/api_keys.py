"""API keys: who callers are and what each may do, as `wallet-admin key` writes it and API processes watch it.

    /wallet/keys        all keys, one JSON document. Once it was written the door is closed: callers say who they are,
                        also when every key is revoked again
    /wallet/used/<id>   when the key was last used, about once a minute by an API process

A key is given out as `wk_<id>_<secret>`, the secret 256 random bits in hex. Only its SHA-256 is kept: reading the tree
does not give a usable key. During a rotation two secrets are good.
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

from wallet_engine.domain.errors import ConfigError, WalletError
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
#: Of a key that is presented, before anything is looked up.
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
    """SHA-256 of a secret, in hex, and until when it is good (Unix milliseconds; None: as long as the key)."""

    sha256: str
    ends_ms: int | None = None


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key. Everything behind the role only narrows what the role may do."""

    id: str
    name: str
    #: A `Role`; one that this program does not know may do nothing.
    role: str
    #: Ordinary accounts, with `*` for any characters; none: all of them.
    accounts: tuple[str, ...] = ()
    #: System accounts of a treasury, in the same way; none: all that the configuration lists.
    system: tuple[str, ...] = ()
    #: Currency -> minor units that one transfer may move. When there is any, other currencies may not be moved.
    amount_max: dict[str, int] = {}  # msgspec copies it
    #: Transfers a second.
    rate: float | None = None
    #: Transfers begun and not answered.
    in_flight: int | None = None
    expires_ms: int | None = None
    created_ms: int = 0
    secrets: tuple[StoredSecret, ...] = ()

    def accepts(self, secret: str, now_ms: int) -> bool:
        """Whether this is one of its secrets, and good now."""
        if self.expires_ms is not None and now_ms >= self.expires_ms:
            return False
        digest = _digest(secret)
        return any(
            hmac.compare_digest(digest, stored.sha256) and (stored.ends_ms is None or now_ms < stored.ends_ms)
            for stored in self.secrets
        )


class Presented(NamedTuple):
    """The two parts of a key that a caller shows."""

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
    """`template` with an id and a secret of its own, and the key to give out: the only time that it is known."""
    key_id = "".join(secrets.choice(_ID_DIGITS) for _ in range(_ID_LENGTH))
    secret = secrets.token_hex(_SECRET_BYTES)
    stored = (StoredSecret(_digest(secret)),)
    made = msgspec.structs.replace(template, id=key_id, created_ms=_now_ms(), secrets=stored)
    return made, f"{PREFIX}_{key_id}_{secret}"


def rotated(key: ApiKey, old_ends_ms: int) -> tuple[ApiKey, str]:
    """`key` with a new secret, and the key to give out. The secrets of before are good until then at most."""
    secret = secrets.token_hex(_SECRET_BYTES)
    now_ms = _now_ms()
    old = [
        StoredSecret(s.sha256, old_ends_ms if s.ends_ms is None else min(s.ends_ms, old_ends_ms))
        for s in key.secrets
        if s.ends_ms is None or s.ends_ms > now_ms
    ]
    # Two are good at most: the newest of before, and the new one.
    kept = (*old[-1:], StoredSecret(_digest(secret)))
    return msgspec.structs.replace(key, secrets=kept), f"{PREFIX}_{key.id}_{secret}"


def check_key(key: ApiKey, *, system_accounts: tuple[str, ...]) -> ApiKey:
    """The key, or `ConfigError` for a name or a grant that cannot be."""
    check_name(key.name, "name of a key")
    for pattern in key.accounts:
        if not is_pattern(pattern):
            raise ConfigError(f"--accounts {pattern[:80]!r} is no pattern such as shop-*, or one account")
    for pattern in key.system:
        if not is_system_pattern(pattern):
            raise ConfigError(f"--system {pattern[:80]!r} is no system account such as @fees or @bank:*")
        if not any(covers(listed, pattern) for listed in system_accounts):
            raise ConfigError(
                f"--system {pattern} is no system account of this cluster: {', '.join(system_accounts)}"
            )
    if max(len(key.accounts), len(key.system)) > _PATTERNS_MAX:
        raise ConfigError(f"a key has at most {_PATTERNS_MAX} patterns")
    if key.system and key.role != Role.TREASURY:
        raise ConfigError(f"--system is for the role treasury, not {key.role}")
    return key


class ApiKeys:
    """The keys in one tree. Calls are synchronous and may raise `StoreUnavailable`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def __repr__(self) -> str:
        return f"<ApiKeys {self._tree!r}>"

    def all(self) -> dict[str, ApiKey] | None:
        """Keys by id; None when there never was one, and callers need none."""
        node = self._tree.get(KEYS)
        return None if node is None else _keys_in(node)

    def change(self, edit: Callable[[dict[str, ApiKey]], None]) -> None:
        """Have `edit` change the keys. Raises what it raises, and `ConfigError` when there are too many."""
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
        """Call back with `all()` soon and after every change. An unreadable key is logged, and changes nothing."""

        def decoded(node: Node | None) -> None:
            try:
                callback(None if node is None else _keys_in(node))
            except WalletError as error:
                log.error("the keys are left as they were", error=str(error))

        return self._tree.watch(KEYS, decoded)

    def note_used(self, key_id: str, at_ms: int) -> None:
        """The key was used at that time. A later use that another process has noted stays."""
        path = f"{USED}/{key_id}"
        with suppress(NodeExists, NodeMissing, VersionConflict):
            node = self._tree.get(path)
            if node is None:
                self._tree.create(path, b"%d" % at_ms)
            elif _used_ms(node) < at_ms:
                self._tree.set(path, b"%d" % at_ms, node.version)

    def used_ms(self) -> Mapping[str, int]:
        """Key -> when it was last used; those that never were are not in it."""
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
