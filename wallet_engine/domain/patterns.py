"""Patterns of account ids, such as `shop-*`; `*` stands for any number of characters, also none."""

import re
from collections.abc import Iterable
from typing import Final

#: Maximum number of `*` in one pattern: each one multiplies the ways in which an id can match.
STARS_MAX: Final = 2

_ordinary_match = re.compile(r"[A-Za-z0-9._:*-]{1,64}\Z").match
_system_match = re.compile(r"@[A-Za-z0-9._:*-]{1,63}\Z").match


def is_pattern(text: str) -> bool:
    """Whether it is a pattern of ordinary accounts."""
    return _ordinary_match(text) is not None and text.count("*") <= STARS_MAX


def is_system_pattern(text: str) -> bool:
    """Whether it is a pattern of system accounts: `@fees`, `@bank:*`."""
    return _system_match(text) is not None and text.count("*") <= STARS_MAX


def compile_patterns(patterns: Iterable[str]) -> str:
    """A regular expression, without an end anchor, for ids that fit one of the patterns.

    Without patterns no id fits.
    """
    alternatives = [re.escape(pattern).replace(r"\*", "[A-Za-z0-9._:-]*") for pattern in patterns]
    return f"(?:{'|'.join(alternatives)})" if alternatives else "(?!)"


def covers(pattern: str, narrower: str) -> bool:
    """Whether every id that fits `narrower` fits `pattern`. `pattern` may have a `*` only at its end."""
    return pattern == narrower or (pattern.endswith("*") and narrower.startswith(pattern[:-1]))
