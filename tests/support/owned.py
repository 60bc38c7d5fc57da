"""The four figures of an answer that shows a balance, for an account without holds."""

import re


def owned(balance: str) -> dict[str, str]:
    """The figures when all of the balance is available."""
    nothing = re.sub("[0-9]+", "0", balance, count=1).lstrip("-")
    nothing = nothing[:1] + re.sub("[0-9]", "0", nothing[1:])
    return {"balance": balance, "available": balance, "held": nothing, "pending": nothing}
