"""Help after a typing error, or with a variable that was set and forgotten."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.admin.made import MadeJournal, admin, answer, make_map, refusal

from wallet_engine.routing.directory import Directory


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    opened = make_map(tmp_path / "map.json", 2)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stauts"], "No such command 'stauts'. Did you mean status"),
        (["config", "gett"], "No such command 'gett'. Did you mean get"),
        (["qqqq"], "No such command 'qqqq'."),
        (["--map-file", "map.json", "--json", "stauts"], "No such command 'stauts'. Did you mean status"),
        (["--zookeeper=zk1:2181", "key", "lst"], "No such command 'lst'. Did you mean list"),
        (["--no-such-flag", "stauts"], "No such option '--no-such-flag'"),
        (["--map-file", "map.json", "ca", "list"], "No such option '--map-file'"),
    ],
)
def test_a_mistyped_verb_is_told_what_is_near(words: list[str], said: str) -> None:
    assert said in refusal(admin(*words), 2)


def test_wallet_yes_does_not_answer_what_destroys(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--map-file", tmp_path / "map.json"]
    monkeypatch.setenv("WALLET_YES", "1")
    created = answer("key", "create", "shop", "--role", "payer", "--accounts", "shop-*", *flags)
    revoke = ("key", "revoke", created["id"], *flags)
    refused = admin(*revoke, input="n\n")
    assert refused.exit_code == 1
    assert "WALLET_YES does not answer this" in refused.stderr
    assert answer("key", "list", *flags)["keys"]
    assert admin(*revoke, "--yes").exit_code == 0
    assert answer("key", "list", *flags)["keys"] == []


@pytest.mark.parametrize(
    "verb",
    [["journal", "followers", "--forget", "history"], ["journal", "cut", "JOURNAL", "0", "2"]],
    ids=str,
)
def test_nor_what_takes_something_away_for_good(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    directory.followers.note("history", {0: 1})
    journal = MadeJournal(tmp_path / "journal")
    for account in ("ann", "bob"):
        journal.add(0, f"o - {account} - 0 USD")
    journal.writer.close()
    monkeypatch.setenv("WALLET_YES", "1")
    words = [str(journal.directory) if word == "JOURNAL" else word for word in verb]
    refused = admin(*words, "--map-file", tmp_path / "map.json", input="n\n")
    assert refused.exit_code == 1
    assert "WALLET_YES does not answer this" in refused.stderr
    assert admin(*words, "--map-file", tmp_path / "map.json", "--yes").exit_code == 0


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        (["audit"], "nothing was changed yet"),
        (["config", "history"], "nothing was set yet"),
        (["key", "list"], "no keys"),
        (["moves"], "no partition is being moved"),
    ],
    ids=str,
)
def test_an_empty_list_says_so(directory: Directory, tmp_path: Path, verb: list[str], said: str) -> None:
    assert said in admin(*verb, "--map-file", tmp_path / "map.json").stdout


def test_an_editor_changes_settings(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--map-file", tmp_path / "map.json"]
    script = tmp_path / "editor"
    script.write_text(
        "#!/bin/sh\nsed -i 's/^stream-entries-max = 100000/stream-entries-max = 200000/' \"$1\"\n"
    )
    script.chmod(0o700)
    monkeypatch.setenv("VISUAL", str(script))
    changes = [{"setting": "stream-entries-max", "old": 100_000, "new": 200_000}]
    asked = admin("config", "edit", *flags, input="n\n")
    assert "- stream-entries-max = 100000\n+ stream-entries-max = 200000" in asked.stderr
    assert answer("config", "get", "stream-entries-max", *flags) == {"stream_entries_max": 100_000}
    assert answer("config", "edit", "--yes", *flags)["changes"] == changes
    assert answer("config", "get", "stream-entries-max", *flags) == {"stream_entries_max": 200_000}
    assert answer("config", "edit", "--yes", *flags)["changes"] == []
    assert "stream-entries-max from 100000 to 200000" in admin("config", "history", *flags).stdout


def test_an_editor_cannot_make_settings_up(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "editor"
    script.write_text("#!/bin/sh\necho 'colour = red' >> \"$1\"\n")
    script.chmod(0o700)
    monkeypatch.setenv("VISUAL", str(script))
    said = refusal(admin("config", "edit", "--yes", "--map-file", tmp_path / "map.json"))
    assert "not a setting that may be changed: colour = red" in said
