"""Merges equal findings about several partitions or nodes into one line of the report."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wallet_engine.admin.diagnosis.finding import Finding

#: The subject of a finding, in which equal findings differ: a partition, or a node's address.
_subject: Final = re.compile(r"\bpartition \d+\b|(?<!\S)(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}\b")
_PARTITION: Final = "partition "


@dataclass(frozen=True, slots=True)
class Group:
    """A finding, and the other subjects with the same finding."""

    finding: Finding
    others: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        return self.finding.what + (f"; the same of {_listed(self.others)}" if self.others else "")

    @property
    def mend(self) -> str:
        """The mend of the first finding. The mends of the others differ only in their names."""
        remark = "; then the same of the others"
        said = str(self.finding.mend)
        if not self.others:
            return said
        return said + (remark if self.finding.mend.line is None or "  # " in said else f"  # {remark[2:]}")


def grouped(findings: Iterable[Finding]) -> list[Group]:
    """In the order of each group's first finding. Findings are equal if their text differs only in the subject."""
    groups: dict[tuple[str, ...], list[tuple[Finding, str]]] = {}
    for finding in findings:
        match = _subject.search(finding.what)
        subject = "" if match is None else match[0]
        rest = finding.what.replace(subject, "") if subject else finding.what
        mend = _without(subject.removeprefix(_PARTITION), str(finding.mend))
        groups.setdefault((finding.check, finding.severity, rest, mend), []).append((finding, subject))
    return [Group(same[0][0], tuple(subject for _, subject in same[1:])) for same in groups.values()]


def _without(subject: str, mend: str) -> str:
    """The mend without the number of its partition, or without its node (also as an argument of `redis-cli`)."""
    if not subject:
        return mend
    host, _, port = subject.rpartition(":")
    mend = mend.replace(f"-h {host.strip('[]')} -p {port} ", "") if host else mend
    return re.sub(rf"(?<!\w){re.escape(subject)}(?!\w)", "", mend)


def _listed(subjects: tuple[str, ...]) -> str:
    numbers = [
        int(subject.removeprefix(_PARTITION)) for subject in subjects if subject.startswith(_PARTITION)
    ]
    if len(numbers) < len(subjects) or not numbers:
        return ", ".join(subjects)
    return f"partition{'s' if len(numbers) > 1 else ''} {ranges_text(numbers)}"


def ranges_text(numbers: Iterable[int]) -> str:
    """Such as `0-3, 7`."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{a}-{b}" if a != b else f"{a}" for a, b in spans)
