"""Patterns of account ids, such as `shop-*`: an id in which `*` stands for any characters, or none."""

import re
from collections.abc import Iterable
from typing import Final

#: In one pattern: each multiplies the ways in which an id can be tried.
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
    """A regular expression, without its end, for ids that fit one of the patterns. Of no patterns, none fits."""
    alternatives = [re.escape(pattern).replace(r"\*", "[A-Za-z0-9._:-]*") for pattern in patterns]
    return f"(?:{'|'.join(alternatives)})" if alternatives else "(?!)"


def covers(pattern: str, narrower: str) -> bool:
    """Whether whatever fits `narrower` fits `pattern`, which has no `*` but at its end."""
    return pattern == narrower or (pattern.endswith("*") and narrower.startswith(pattern[:-1]))
