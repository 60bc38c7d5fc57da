"""The interface: every endpoint, a row each, defined beside its handler. The first template that fits a path wins."""

from typing import Final

from wallet_engine.http import accounts, events, groups, history, holds, probes, refunds, transfers
from wallet_engine.http.endpoint import Endpoint

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *transfers.ENDPOINTS,
    *groups.ENDPOINTS,
    *accounts.ENDPOINTS,
    *holds.ENDPOINTS,
    *refunds.ENDPOINTS,
    *events.ENDPOINTS,
    *history.ENDPOINTS,
    *probes.ENDPOINTS,
)
