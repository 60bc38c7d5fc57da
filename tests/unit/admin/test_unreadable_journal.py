"""A journal directory on this host that this user may not read: verbs say so in one line, or do without it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from unit.admin.made import MadeJournal, make_map, register_journal

from wallet_engine.admin.diagnosis.examination import _disk_free
from wallet_engine.admin.journals import check_journal, find_journal
from wallet_engine.admin.survey import JournalState, Survey
from wallet_engine.admin.verbs.journal_info import _files_of
from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.directory import Directory

ANOTHER_USER = 65534


@contextmanager
def nothing_to_read(folder: Path) -> Iterator[None]:
    """As a user without rights on the folder. Root has rights on everything, and is another user meanwhile."""
    folder.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(ANOTHER_USER)
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)


@pytest.fixture
def directory() -> Iterator[Directory]:
    """The map is where everybody may read it, unlike what tests get as `tmp_path`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        made = make_map(Path(folder) / "map.json", 2)
        for each in Path(folder).iterdir():
            each.chmod(0o666)
        yield made
        made.close()


@pytest.mark.parametrize("closed", ["the journal", "its parent"])
def test_the_verbs_that_need_it_say_so(directory: Directory, tmp_path: Path, closed: str) -> None:
    """It was a traceback."""
    journal = tmp_path / "var" / "journal"
    journal.parent.mkdir()
    MadeJournal(journal).close()
    register_journal(directory, journal)
    folder = journal if closed == "the journal" else journal.parent
    for search in (lambda: find_journal(directory, None), lambda: check_journal(journal)):
        with pytest.raises(ConfigError, match="may not read"), nothing_to_read(folder):
            search()
    assert find_journal(directory, None).directory == journal


def test_the_verbs_that_show_more_with_it_do_without(directory: Directory, tmp_path: Path) -> None:
    """`doctor` and `journal info` ended in a traceback, whatever else they had to say."""
    journal = tmp_path / "var" / "journal"
    journal.parent.mkdir()
    MadeJournal(journal).close()
    register_journal(directory, journal)
    state = JournalState(directory.journals()["j1"], {}, 0, ())
    found = Survey(directory.config(), 1, (), (), (state,), ())
    assert _files_of(state) is not None
    assert _disk_free(found).keys() == {"j1"}
    with nothing_to_read(journal.parent):
        assert _files_of(state) is None
        assert _disk_free(found) == {}
