"""The command line says what it takes, and refuses what it does not."""

import pytest
from click.testing import CliRunner

from bench.__main__ import main


@pytest.mark.parametrize("words", [[], ["run"], ["quick"]])
def test_help_names_the_options(words: list[str]) -> None:
    result = CliRunner().invoke(main, [*words, "--help"])
    assert result.exit_code == 0
    assert "--help" in result.output


@pytest.mark.parametrize(
    "words", [["--door", "window"], ["--workload", "none"], ["--batch", "0"], ["--accounts", "1"]]
)
def test_wrong_usage_exits_2(words: list[str]) -> None:
    assert CliRunner().invoke(main, ["run", *words]).exit_code == 2
