"""Whose partition keeps a payment from beginning."""

from wallet_engine.domain.errors import Outage
from wallet_engine.engine.headroom import Headroom


def side_refused(headroom: Headroom, p: int, q: int) -> tuple[Outage, bool] | None:
    """The `Outage` of a partition that takes no new work, and whether that is q, the receiver's; None where both do."""
    for partition, of_receiver in ((p, False), (q, True)):
        try:
            headroom.check(partition)
        except Outage as outage:
            return outage, of_receiver
    return None


def check_sides(headroom: Headroom, p: int, q: int) -> None:
    """Raises the `Outage` of a partition that takes no new work, which says whose that is."""
    refused = side_refused(headroom, p, q)
    if refused is not None:
        outage, of_receiver = refused
        detail = f"on the {'receiver' if of_receiver else 'payer'}'s side: {outage.detail}"
        raise Outage(outage.code, detail, retry_after_s=outage.retry_after_s)
