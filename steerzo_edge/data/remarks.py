"""Collects, over the rows of a file, the fields that are not used and the changes that were made while reading."""

from collections import Counter
from collections.abc import Mapping

from steerzo_edge.data.examples import Remarks
from steerzo_edge.data.fields import Fields

MOST_NAMES = 200
OTHERS = "other fields"


class RemarksSoFar:
    """The counts so far.

    Args:
        container: As in `Remarks`.
    """

    def __init__(self, container: str) -> None:
        self._container = container
        self._ignored: Counter[str] = Counter()
        self._others = 0
        self._changed: Counter[str] = Counter()

    def add(self, row: Fields) -> None:
        """Counts what a row that has been read leaves unread; a file may have more names than are kept apart."""
        others = False
        for name in sorted(row.unread):
            if name in self._ignored or len(self._ignored) < MOST_NAMES:
                self._ignored[name] += 1
            else:
                others = True
        self._others += others
        self._changed.update(row.notes)

    def remarks(self) -> Remarks:
        """The counts, the most frequent first."""
        ignored, changed = (dict(counts.most_common()) for counts in (self._ignored, self._changed))
        return Remarks(self._container, ignored | ({OTHERS: self._others} if self._others else {}), changed)


def ignored_sentence(ignored: Mapping[str, int]) -> str:
    """Fields that are not used, and in how many rows, as a line of text."""
    listed = (f"{name} ({rows:,} {'row' if rows == 1 else 'rows'})" for name, rows in ignored.items())
    return f"ignored: {', '.join(listed)}"
