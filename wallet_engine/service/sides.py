"""Whose partition keeps a payment from beginning."""

from wallet_engine.domain.errors import Outage
from wallet_engine.engine.headroom import Headroom


def check_sides(headroom: Headroom, p: int, q: int) -> None:
    """Raises the `Outage` of a partition that takes no new work, which says whose that is."""
    for partition, side in ((p, "payer"), (q, "receiver")):
        try:
            headroom.check(partition)
        except Outage as outage:
            detail = f"on the {side}'s side: {outage.detail}"
            raise Outage(outage.code, detail, retry_after_s=outage.retry_after_s) from None
