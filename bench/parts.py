"""Keeps the finished parts of a long measurement in a file, so that an interrupted one can continue."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

PARTIAL_FILE: Final = "partial.json"


class Parts:
    """Finished parts by name. `same`: what they were measured with, such as commit, machine and options.

    `resume`: begin with the parts in the file. Raises `ValueError` when there is no file, or when its `same` differs.
    """

    def __init__(self, path: Path, same: Mapping[str, Any], *, resume: bool) -> None:
        self._path = path
        self._same = json.loads(json.dumps(same))
        self._parts: dict[str, Any] = {}
        self._spent_s = 0.0
        self._began_s = time.monotonic()
        #: Number of parts that an earlier process measured.
        self.resumed = 0
        if resume:
            self._take_up()

    def __repr__(self) -> str:
        return f"<Parts {len(self._parts)} in {self._path}>"

    def _take_up(self) -> None:
        try:
            stored = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            raise ValueError(f"nothing was interrupted: there is no {self._path}") from None
        differ = [name for name, value in self._same.items() if stored["same"].get(name) != value]
        if differ:
            raise ValueError(f"{self._path} was measured with another {' and '.join(differ)}")
        self._parts, self._spent_s = stored["parts"], stored["spent_s"]
        self.resumed = len(self._parts)

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def __getitem__(self, name: str) -> Any:
        return self._parts[name]

    @property
    def spent_s(self) -> float:
        """Seconds of this process and of the earlier ones."""
        return self._spent_s + time.monotonic() - self._began_s

    def put(self, name: str, part: Any) -> Any:
        """Keep a part, on disk too, and return it."""
        self._parts[name] = part
        document = {"same": self._same, "spent_s": self.spent_s, "parts": self._parts}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = self._path.with_suffix(".new")
        written.write_text(json.dumps(document, ensure_ascii=False) + "\n", "utf-8")
        written.replace(self._path)
        return part

    def get(self, name: str, measure: Callable[[], Any]) -> Any:
        """The part of this name; if there is none yet, measure and keep it."""
        return self[name] if name in self else self.put(name, measure())

    def done(self) -> None:
        """Delete the file: the whole result is written elsewhere."""
        self._path.unlink(missing_ok=True)
