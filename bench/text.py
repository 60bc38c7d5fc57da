"""Formats tables as text and as Markdown."""

from collections.abc import Sequence


def _numeric(rows: Sequence[Sequence[str]], columns: int) -> list[bool]:
    return [bool(rows) and all(not row[i] or row[i][0].isdigit() for row in rows) for i in range(columns)]


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text. Columns of numbers are aligned to the right."""
    widths = [max(len(line[i]) for line in (headings, *rows)) for i in range(len(headings))]
    numeric = _numeric(rows, len(headings))

    def line(cells: Sequence[str]) -> str:
        placed = zip(cells, widths, numeric, strict=True)
        return "  ".join(
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in placed
        ).rstrip()

    return "\n".join([line(headings), line(["-" * width for width in widths]), *map(line, rows)])


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown, aligned in the same way."""
    rule = ["---:" if right else "---" for right in _numeric(rows, len(headings))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (headings, rule, *rows))
