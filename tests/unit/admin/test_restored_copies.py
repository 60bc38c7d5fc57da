"""The journal copies that count after a restore: those of an old file count only if a person confirms it."""

import pytest

from wallet_engine.admin.tree_file import copies_in_force
from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.model import Members, MembersText

NO_LIST = Members(-1, ())
OLD = MembersText(("j1", "j2", "j3"), ("j0",))


@pytest.mark.parametrize(
    ("present", "running", "stated", "expected"),
    [
        (NO_LIST, "j1 j2 j3", None, OLD),
        (NO_LIST, "j1 j2", "j1 j2 j3", OLD),
        (NO_LIST, "j1 j2 j4", "j1 j2 j4", MembersText(("j1", "j2", "j4"), ("j0", "j3"))),
        (Members(7, ("j1", "j4"), ("j3",)), "j1", None, MembersText(("j1", "j4"), ("j3",))),
        (Members(7, ("j1", "j4"), ("j3",)), "j1", "j1 j4", MembersText(("j1", "j4"), ("j3",))),
    ],
)
def test_taken(present: Members, running: str, stated: str | None, expected: MembersText) -> None:
    names = None if stated is None else tuple(stated.split())
    assert copies_in_force(OLD, present, running.split(), names) == expected


@pytest.mark.parametrize(
    ("present", "running", "stated", "said"),
    [
        (NO_LIST, "j1 j2", None, "those that run are j1, j2: start all of them"),
        (NO_LIST, "j1 j2 j3 j4", None, "those that run are j1, j2, j3, j4"),
        (NO_LIST, "", None, "those that run are none"),
        (NO_LIST, "j1 j2 j4", "j1 j2 j3", "journal copy j4 runs: name it, or stop it"),
        (NO_LIST, "j1 j2", "j0 j1 j2", "journal copy j0 was replaced"),
        (
            Members(7, ("j1", "j4")),
            "j1 j4",
            "j1 j2 j3",
            "the journal copies j1, j4: leave out --journal-copies",
        ),
    ],
)
def test_refused(present: Members, running: str, stated: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        copies_in_force(OLD, present, running.split(), None if stated is None else tuple(stated.split()))
