"""The gate that every request passes: it authenticates, admits and measures.

Handlers take a `Request`, the direct way a transfer. Both need a `Visit`, which only `enter` makes, so no request
bypasses the gate.
"""

import time
from collections.abc import Callable
from typing import Final, Protocol

from wallet_engine.http.problems import KINDS, Refused
from wallet_engine.http.request_ids import Asked, request_id_of
from wallet_engine.http.request_metrics import RequestMetrics
from wallet_engine.http.tls import Certificates, Shown
from wallet_engine.service.keyring import Keyring, Unauthenticated
from wallet_engine.service.policy import ANYONE, Principal
from wallet_engine.service.shares import Share
from wallet_engine.telemetry.metrics import Metrics

#: Requests to bounded endpoints that one process has begun and not yet answered.
REQUESTS_IN_FLIGHT_MAX: Final = 20_000

#: A pause lasts for minutes.
_WHEN_PAUSED: Final = ((b"retry-after", b"5"),)
_CHALLENGE: Final = ((b"www-authenticate", b'Bearer realm="wallet-engine"'),)


class Entrance(Protocol):
    """The fields of an endpoint that the gate reads."""

    @property
    def method(self) -> str: ...

    @property
    def template(self) -> str: ...

    @property
    def bounded(self) -> bool: ...

    @property
    def public(self) -> bool: ...

    @property
    def small(self) -> bool: ...

    @property
    def pays(self) -> bool: ...


class Peer:
    """The other end of a connection: its address, and the API key of its client certificate, if it has shown one."""

    __slots__ = ("address", "anyone", "certificate", "shown")

    def __init__(
        self,
        address: str,
        certificate: str | None = None,
        anyone: Principal = ANYONE,
        shown: Shown | None = None,
    ) -> None:
        self.address = address
        self.certificate = certificate
        self.shown = shown
        #: The principal of this caller while no keys are needed.
        self.anyone = anyone

    def __repr__(self) -> str:
        return f"<Peer {self.address}>"

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine. Under a server other than ours the address is empty, and counts as local."""
        return self.address.startswith(("127.", "::ffff:127.")) or self.address in ("::1", "")


class Gate:
    """Lets requests in. Use it on one event loop."""

    def __init__(
        self,
        metrics: Metrics,
        keyring: Keyring | None = None,
        in_flight_max: int = REQUESTS_IN_FLIGHT_MAX,
        make_visit: "MakeVisit | None" = None,
    ) -> None:
        """Without a keyring everybody may do everything."""
        self._make_visit: MakeVisit = make_visit or Visit
        self.metrics = RequestMetrics(metrics)
        self.keyring = keyring or Keyring()
        #: Tells which certificates of callers have ended; None without HTTPS.
        self.certificates: Certificates | None = None
        self._known = self.keyring.known
        #: Requests to bounded endpoints (G10).
        self.in_flight = 0
        self.in_flight_max = in_flight_max
        #: Why no new payments are taken; empty while they are.
        self.paused = ""
        #: The process ends soon; it still answers requests.
        self.leaving = False

    def __repr__(self) -> str:
        return f"<Gate in_flight={self.in_flight}>"

    def enter(self, entrance: Entrance, authorization: bytes | None, peer: Peer, asked: Asked) -> "Visit":
        """Start a request; `leave` of the visit ends it. Raises `Refused`; then it has ended.

        `authorization`: its header of that name.
        """
        full = self.in_flight >= self.in_flight_max
        visit = self._make_visit(self, entrance, asked)
        if not entrance.public:
            known = self._known.get(authorization) if peer.certificate is None else None
            principal = known or self._ask(visit, authorization, peer)
            if principal is ANYONE:
                principal = peer.anyone
            visit.principal = principal
            if entrance.bounded:
                share = principal.share
                share.in_flight += 1
                visit.counted = True
                if entrance.small:
                    share.present_s = visit.began_s
                if share.in_flight > share.in_flight_max or self.in_flight * 2 > self.in_flight_max:
                    self._check_share(visit, share)
        if full and entrance.bounded:
            raise visit.refuse(Refused("overloaded", "too many requests are in flight"))
        if self.paused and entrance.pays:
            raise visit.refuse(Refused("maintenance", self.paused, headers=_WHEN_PAUSED))
        return visit

    def peer(self, address: str, certificate: str | None = None, shown: Shown | None = None) -> Peer:
        """The other end of a connection. While no keys are needed, all clients at one address are one caller."""
        anyone = ANYONE.with_share(self.keyring.shares.of(f"from {address}"))
        return Peer(address, certificate, anyone, shown)

    def check_again(self, authorization: bytes | None, peer: Peer) -> None:
        """Check the caller of a request that lasts: its key may have ended since. Raises `Refused`."""
        try:
            self._whose(authorization, peer)
        except Unauthenticated as error:
            raise _unauthenticated(error) from None

    def _check_share(self, visit: "Visit", share: Share) -> None:
        """Raises `Refused` when the caller has more in flight than its key allows, or more than its fair share."""
        if share.in_flight > share.in_flight_max:
            raise visit.refuse(_too_many(f"this key may have {share.in_flight_max} transfers in flight"))
        if share.in_flight > self.in_flight_max // 2 and self.keyring.shares.others_present(share):
            raise visit.refuse(_too_many("this caller alone has too many requests in flight"))

    def _ask(self, visit: "Visit", authorization: bytes | None, peer: Peer) -> Principal:
        """The principal of a caller that was not seen lately. Raises `Refused`."""
        try:
            return self._whose(authorization, peer)
        except Unauthenticated as error:
            raise visit.refuse(_unauthenticated(error)) from None

    def _whose(self, authorization: bytes | None, peer: Peer) -> Principal:
        """Raises `Unauthenticated`. A key that is shown decides, and the certificate only without one."""
        shown = peer.shown if authorization is None else None
        if shown is not None and self.certificates is not None and self.certificates.has_ended(shown):
            raise Unauthenticated("the certificate has expired, or was revoked")
        return self.keyring.whose(authorization, peer.certificate)


def _unauthenticated(error: Unauthenticated) -> Refused:
    return Refused("unauthenticated", str(error), headers=_CHALLENGE)


def _too_many(detail: str) -> Refused:
    return Refused("rate_limited", detail, headers=((b"retry-after", b"1"),))


class Visit:
    """One request, from the gate to its answer."""

    __slots__ = ("_entrance", "_gate", "asked", "began_s", "counted", "principal")

    def __init__(self, gate: Gate, entrance: Entrance, asked: Asked) -> None:
        self.principal: Principal = ANYONE
        self.asked = asked
        self._gate = gate
        self.began_s = time.perf_counter()
        self.counted = False
        self._entrance = entrance
        gate.in_flight += entrance.bounded
        gate.metrics.in_flight += 1

    def __repr__(self) -> str:
        return f"<Visit {self._entrance.template}>"

    @property
    def request_id(self) -> str:
        return request_id_of(self.asked).decode()

    def refuse(self, refused: Refused) -> Refused:
        """End the request with this refusal, which the caller raises."""
        self.leave(KINDS[refused.code].status)
        return refused

    def leave(self, status: int) -> None:
        """End the request; it is answered with that status."""
        gate, entrance = self._gate, self._entrance
        gate.in_flight -= entrance.bounded
        if self.counted:
            self.principal.share.in_flight -= 1
        gate.metrics.ended(entrance.template, status, time.perf_counter() - self.began_s)


MakeVisit = Callable[[Gate, Entrance, Asked], Visit]
