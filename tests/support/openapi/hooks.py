"""A check beside Schemathesis' own: a request of the documented form is refused for nothing that a schema can say."""

import re
import unicodedata
from typing import Any

import schemathesis

#: Relations between two fields, or between a field and what the cluster has.
UNSAYABLE = re.compile(
    r"""
      (?:(?:legs|transfers)\[\d+\]:\ )?
      (?:
        from_account\ and\ to_account\ must\ differ
      | account_id\ and\ to_account\ must\ differ
      | [A-Z]{3}\ has\ \d\ decimal\ places,\ (?:amount|overdraft_limit|max_balance|min_balance_after)\ has\ \d
      | (?:amount|overdraft_limit|max_balance|min_balance_after)\ is\ above\ [0-9.]+
      | transaction_id\ is\ missing
      | Idempotency-Key\ and\ transaction_id\ differ
      | min_balance_after:\ a\ system\ account\ has\ no\ limit
      | metadata\ has\ \d+\ bytes,\ at\ most\ 1024\ are\ kept
      | to_account\ is\ missing.*
      | currency\ is\ missing:\ the\ account\ has\ several
      | nothing\ to\ change:\ .*
      | from\ must\ not\ be\ after\ to
      | (?:min|max)_amount\ needs\ currency
      | cursor\ is\ not\ a\ value\ of\ next_cursor\ of\ this\ call
      | at\ is\ in\ the\ future:\ .*
      | (?:at|from|to)\ must\ be\ a\ time\ such\ as\ .*
      | amount\ has\ \d
      )
    """,
    re.VERBOSE,
)


def _has_unassigned(body: object) -> bool:
    """Characters that no Unicode has (yet) are not printable; Schemathesis takes whole blocks for letters."""
    if isinstance(body, str):
        return any(unicodedata.category(character) == "Cn" for character in body)
    if isinstance(body, dict):
        return any(map(_has_unassigned, body.values()))
    return isinstance(body, list) and any(map(_has_unassigned, body))


@schemathesis.check
def refused_for_what_no_schema_says(ctx: Any, response: Any, case: Any) -> None:
    if response.status_code != 400 or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    detail = response.json()["detail"]
    given = [case.body, dict(case.query or {})]
    if not UNSAYABLE.fullmatch(detail) and not _has_unassigned(given):
        raise AssertionError(f"a request of the documented form is refused: {detail}")
