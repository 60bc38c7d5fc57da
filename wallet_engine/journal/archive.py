"""The archive that `--archive-command` and `--restore-command` use: names, and how far it goes.

In the commands, %p is the path of a segment here, quoted if necessary; %f its file name in the archive; %j
the id of the copy, because no two copies have the same segments; %% a percent sign.

A segment has the same name in the archive as here. When a rewrite takes orphaned entries out of it or of an
earlier segment (`journal.rewrite`), it is archived again, as `00000005-r1.wal` after the first rewrite, `-r2`
after the second; segments sealed later get the same suffix. The highest -r of a number counts. This resembles
PostgreSQL's timelines.

    archived   number of the last archived segment in 8 digits, a space, the number of rewrites that this
               segment and those before it reflect, and a newline
    rewrites   the first segment of each finished rewrite, one a line (`journal.rewrite`)
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from wallet_engine.journal.errors import Damaged

ARCHIVED_NAME: Final = "archived"
REWRITES_NAME: Final = "rewrites"

#: The characters that decide how a word has to be quoted, and the placeholders.
_tokens: Final = re.compile(r"""%[a-z%]|\\['"\\]|['"]""").sub
_note_match = re.compile(rb"([0-9]{8}) ([0-9]+)\n\Z").match


class Archived(NamedTuple):
    """How far the archive goes: its last segment, and how many rewrites the texts up to it reflect."""

    number: int
    rewrites: int

    def next(self, rewrites: Sequence[int]) -> int:
        """The segment to archive next; an earlier one when segments were rewritten since."""
        return min((self.number + 1, *rewrites[self.rewrites :]))


def read_archived(journal: Path) -> Archived:
    """The last note of the archiver; (0, 0) before the first segment. Raises `Damaged`."""
    path = journal / ARCHIVED_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return Archived(0, 0)
    found = _note_match(text)
    if found is None:
        raise Damaged(path, 0, f"not a segment number and a count of rewrites: {text[:32]!r}")
    return Archived(int(found[1]), int(found[2]))


def read_rewrites(directory: Path) -> list[int]:
    """The first segment of each rewrite, in order. The rewrite changed this segment and all later ones.

    Raises `Damaged`.
    """
    path = directory / REWRITES_NAME
    try:
        words = path.read_text("latin-1").split()
    except FileNotFoundError:
        return []
    if not all(word.isdecimal() for word in words):
        raise Damaged(path, 0, "not a list of segment numbers")
    return [int(word) for word in words]


def archived_up_to(journal: Path) -> int:
    """The archive has all segments up to this one as they are now; 0 for none. Raises `Damaged`."""
    return read_archived(journal).next(read_rewrites(journal)) - 1


def archive_name(path: Path, number: int, rewrites: Sequence[int]) -> str:
    """The segment's name in the archive after these rewrites, given by their first segments."""
    last = max((count for count, first in enumerate(rewrites, 1) if first <= number), default=0)
    return f"{path.stem}-r{last}{path.suffix}" if last else path.name


def expand(command: str, words: Mapping[str, str]) -> str:
    """The command for one segment, for a shell. A % that begins none of the words (%p, %f) stays as it is.

    A path with spaces or quotes stays one word wherever %p is: on its own, or inside quotes of the command.
    """
    quote = ""

    def put(found: re.Match[str]) -> str:
        nonlocal quote
        token = found[0]
        if token in words:
            return _within(quote, words[token])
        if token in ("'", '"'):
            quote = token if not quote else "" if quote == token else quote
        elif token == "\\'" and quote == token[1]:  # in such quotes a backslash is an ordinary character
            quote = ""
        return "%" if token == "%%" else token

    return _tokens(put, command)


def _within(quote: str, word: str) -> str:
    """The word, escaped for the shell inside these quotes, or inside none."""
    if quote == "'":
        return word.replace("'", "'\\''")
    return re.sub(r'[$`"\\]', r"\\\g<0>", word) if quote else shlex.quote(word)
