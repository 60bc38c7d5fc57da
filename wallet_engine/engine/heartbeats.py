"""Finds journal copies that hang. A stopped process keeps its connections; only a question shows it."""

from typing import Final

from wallet_engine.journal.receipts_tracker import ReceiptTracker

#: A copy that has said nothing for so long is asked.
BEAT_S: Final = 1.0
#: One that has not answered for so long hangs.
SILENT_S_MAX: Final = 4.0


class Heartbeats:
    """`silent` names the copies that are connected and do not answer."""

    def __init__(self, tracker: ReceiptTracker) -> None:
        self.silent: set[str] = set()
        self._tracker = tracker
        #: copy -> when it was first asked in vain (loop time)
        self._asked_s: dict[str, float] = {}
        self._next_s = 0.0

    def __repr__(self) -> str:
        return f"<Heartbeats silent={sorted(self.silent)}>"

    def beat(self, now_s: float) -> None:
        """Call it often; it checks once in `BEAT_S`."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + BEAT_S
        heard = self._tracker.take_heard()
        for journal_id in [name for name in self._asked_s if heard.get(name, True)]:
            del self._asked_s[journal_id]
        for journal_id, spoke in heard.items():
            if not spoke and self._tracker.ask_alive(journal_id):
                self._asked_s.setdefault(journal_id, now_s)
        self.silent = {name for name, since_s in self._asked_s.items() if now_s - since_s >= SILENT_S_MAX}
