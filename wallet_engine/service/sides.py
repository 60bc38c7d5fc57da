"""Finds the side whose partition prevents a payment from beginning."""

from wallet_engine.domain.errors import Outage
from wallet_engine.engine.headroom import Headroom


def side_refused(headroom: Headroom, p: int, q: int) -> tuple[Outage, bool] | None:
    """(`Outage`, whether the side is the receiver) of a partition that takes no new work; else None."""
    for partition, of_receiver in ((p, False), (q, True)):
        try:
            headroom.check(partition)
        except Outage as outage:
            return outage, of_receiver
    return None


def check_sides(headroom: Headroom, p: int, q: int) -> None:
    """Raises the `Outage` of a partition that takes no new work; its text names the side."""
    refused = side_refused(headroom, p, q)
    if refused is not None:
        outage, of_receiver = refused
        detail = f"on the {'receiver' if of_receiver else 'payer'}'s side: {outage.detail}"
        raise Outage(outage.code, detail, retry_after_s=outage.retry_after_s)
