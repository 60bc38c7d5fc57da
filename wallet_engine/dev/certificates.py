"""The certificates of a cluster that `dev --certificates` made: an authority in `ca/`, and one for each process.

All are made when they are first needed, and made anew before they end.
"""

from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

from wallet_engine.domain.principals import PeerRole, Principal
from wallet_engine.telemetry.authority import Authority, Pair, holder_of, pair_of

_NAME: Final = "wallet-engine dev"
#: A cluster for development seldom runs for as long without being started anew.
_RENEW_BEFORE: Final = timedelta(days=30)

_ROLES: Final = {"journal": PeerRole.JOURNAL, "serve": PeerRole.SERVICE, "follow": PeerRole.FOLLOWER}


class Certificates:
    """Those of one data directory; nothing is made before it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"<Certificates {self._folder}>"

    @cached_property
    def _authority(self) -> Authority:
        if (self._folder / "ca.pem").exists():
            return Authority(self._folder)
        return Authority.create(self._folder, _NAME)

    def _of(self, principal: Principal) -> Pair:
        pair = pair_of(self._folder, principal)
        authority = self._authority
        if pair.cert.exists():
            _, ends = holder_of(pair.cert)
            if ends - datetime.now(UTC) > _RENEW_BEFORE:
                return pair
        return authority.issue(principal, renew=True)

    def flags(self, verb: str, name: str) -> tuple[str, ...]:
        """For the process of this name that runs this verb of `wallet-engine`: `journal`, `journal-j1`."""
        return self._flags(Principal(_ROLES[verb], name.removeprefix(f"{verb}-")))

    def variables(self) -> dict[str, str]:
        """For `wallet-admin`, as variables without their prefix."""
        ca, cert, key = self._flags(Principal(PeerRole.ADMIN, "dev"))[1::2]
        return {"PEER_CA": ca, "PEER_CERT": cert, "PEER_KEY": key}

    def _flags(self, principal: Principal) -> tuple[str, ...]:
        pair = self._of(principal)
        return (
            *("--peer-ca", str(self._authority.pair.cert)),
            *("--peer-cert", str(pair.cert)),
            *("--peer-key", str(pair.key)),
        )
