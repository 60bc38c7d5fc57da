"""The runbooks as tests walk them: what stands there is what is run."""

import re
from pathlib import Path
from typing import Final

RUNBOOKS: Final = Path(__file__).parents[2] / "cluster_config" / "RUNBOOKS.md"


def commands_of(title: str) -> list[str]:
    """The command lines of one runbook, in their order, without remarks."""
    (section,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", RUNBOOKS.read_text(), re.M | re.S)
    lines = re.findall(r"^    (wallet-(?:admin|engine) .*)$", section, re.M)
    assert lines, f"the runbook {title!r} has no commands"
    return [re.sub(r"\s+# .*$", "", line) for line in lines]
