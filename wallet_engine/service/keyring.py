"""Who shows which key. The keys are those of the cluster, watched: a new or a revoked one counts within a second."""

import time
from collections.abc import Mapping
from typing import Final

from wallet_engine.domain.errors import WalletError
from wallet_engine.routing.api_keys import ApiKey, parse_key
from wallet_engine.service.policy import ANYONE, Principal
from wallet_engine.service.shares import Shares
from wallet_engine.telemetry.logging import get_logger

log = get_logger(__name__)

#: How often a key that is being shown is looked at again: it may have ended.
FORGET_S: Final = 1.0
#: Credentials of callers remembered between two looks.
KNOWN_MAX: Final = 10_000

_SCHEME: Final = "bearer"


class Unauthenticated(WalletError):
    """Nobody is known by what was shown, or nothing was."""


class Keyring:
    """See the module. `replace` and `forget` are called from outside; use it on one event loop."""

    def __init__(self, system_accounts: tuple[str, ...] = (), *, insecure: bool = False) -> None:
        """Until `replace` is called there are no keys. `insecure` asks nobody, but takes keys that are shown."""
        self._system_accounts = system_accounts
        self._insecure = insecure
        self._keys: Mapping[str, ApiKey] | None = None
        #: By the id of a key, made when it is first shown.
        self._principals: dict[str, Principal] = {}
        #: `Authorization`, as it was sent (None: not at all) -> who came in with it lately.
        self.known: dict[bytes | None, Principal] = {}
        self.shares = Shares()
        #: Keys that were shown since this was last emptied.
        self.used: set[str] = set()
        self.forget()

    def __repr__(self) -> str:
        return f"<Keyring keys={len(self._keys or ())} closed={self.closed}>"

    @property
    def closed(self) -> bool:
        """Whether callers have to say who they are."""
        return self._keys is not None and not self._insecure

    def replace(self, keys: Mapping[str, ApiKey] | None) -> None:
        """These are the keys from now on; None: callers need none.

        Once there were keys, None is not believed: a ZooKeeper that has lost its data opens no door.
        """
        if keys is None and self._keys is not None:
            log.error("the keys are gone from ZooKeeper: those known go on")
            return
        self._keys = keys
        self._principals = {}
        self.forget()

    def forget(self) -> None:
        """Look at every key again when it is next shown. Call it every `FORGET_S`."""
        self.known.clear()
        if not self.closed:
            self.known[None] = ANYONE

    def whose(self, authorization: bytes | None, certificate: str | None = None) -> Principal:
        """Who shows this `Authorization`, or, without one, a certificate for this key. Raises `Unauthenticated`."""
        found = self.known.get(authorization) if certificate is None else None
        return found or self._look(authorization, certificate)

    def _look(self, authorization: bytes | None, certificate: str | None) -> Principal:
        if self._keys is None:
            return ANYONE
        if authorization is None:
            if certificate is None:
                raise Unauthenticated("this request needs a key: Authorization: Bearer wk_…")
            return self._of_certificate(self._keys, certificate)
        scheme, _, shown = authorization.decode("latin-1").partition(" ")
        presented = parse_key(shown.strip()) if scheme.lower() == _SCHEME else None
        key = None if presented is None else self._keys.get(presented.id)
        if presented is None or key is None or not key.accepts(presented.secret, _now_ms()):
            raise Unauthenticated("the key is none of this cluster's, or has ended")
        principal = self._principal(key)
        if len(self.known) < KNOWN_MAX:
            self.known[authorization] = principal
        return principal

    def _of_certificate(self, keys: Mapping[str, ApiKey], key_id: str) -> Principal:
        key = keys.get(key_id)
        if key is None or (key.expires_ms is not None and _now_ms() >= key.expires_ms):
            raise Unauthenticated(
                f"the certificate is for the key {key_id[:40]}, which is none, or has ended"
            )
        return self._principal(key)

    def _principal(self, key: ApiKey) -> Principal:
        self.used.add(key.id)
        principal = self._principals.get(key.id)
        if principal is None:
            share = self.shares.of(key.id, key.rate, key.in_flight)
            principal = self._principals[key.id] = Principal(key, self._system_accounts, share)
        return principal


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
