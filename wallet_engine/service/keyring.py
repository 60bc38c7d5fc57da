"""Authenticates callers by API key.

It follows the cluster's keys: a new or revoked key counts within a second.
"""

import time
from collections.abc import Mapping
from typing import Final

from wallet_engine.domain.errors import WalletError
from wallet_engine.routing.api_keys import ApiKey, parse_key
from wallet_engine.service.policy import ANYONE, Principal
from wallet_engine.service.shares import Shares
from wallet_engine.telemetry.logging import get_logger

log = get_logger(__name__)

#: How often a key in use is checked again, because it may have expired.
FORGET_S: Final = 1.0
#: Credentials of callers remembered between two checks.
KNOWN_MAX: Final = 10_000

_SCHEME: Final = "bearer"


class Unauthenticated(WalletError):
    """The caller showed no credentials, or unknown ones."""


class Keyring:
    """See the module. `replace` and `forget` are called from outside; use it on one event loop."""

    def __init__(self, system_accounts: tuple[str, ...] = (), *, insecure: bool = False) -> None:
        """Until `replace` is called there are no keys.

        `insecure` requires no key, but uses one that is shown.
        """
        self._system_accounts = system_accounts
        self._insecure = insecure
        self._keys: Mapping[str, ApiKey] | None = None
        #: Id of a key -> its principal, made when the key is first shown.
        self._principals: dict[str, Principal] = {}
        #: `Authorization` as it was sent (None: not sent) -> the principal it was recently accepted for.
        self.known: dict[bytes | None, Principal] = {}
        self.shares = Shares()
        #: Keys that were shown since this was last emptied.
        self.used: set[str] = set()
        self.forget()

    def __repr__(self) -> str:
        return f"<Keyring keys={len(self._keys or ())} closed={self.closed}>"

    @property
    def closed(self) -> bool:
        """Whether callers have to authenticate."""
        return self._keys is not None and not self._insecure

    def replace(self, keys: Mapping[str, ApiKey] | None) -> None:
        """Set the keys; None: callers need none.

        Once there were keys, None is ignored: a ZooKeeper that lost its data must not open access.
        """
        if keys is None and self._keys is not None:
            log.error("the keys are gone from ZooKeeper: those known go on")
            return
        self._keys = keys
        self._principals = {}
        self.forget()

    def forget(self) -> None:
        """Check every key again when it is next shown. Call it every `FORGET_S`."""
        self.known.clear()
        if not self.closed:
            self.known[None] = ANYONE

    def whose(self, authorization: bytes | None, certificate: str | None = None) -> Principal:
        """The principal of this `Authorization` or, without one, of a certificate.

        Raises `Unauthenticated`.
        """
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
