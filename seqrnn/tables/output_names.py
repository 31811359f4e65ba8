"""Names of the columns of predictions, beside which a table's own names must keep theirs apart."""

from __future__ import annotations

from collections.abc import Iterable


class OutputNames:
    """Chooses a name for each column of predictions. One that is taken already gets an underscore at its end.

    Args:
        fixed: names that always mean the same, whatever the columns of the table are called.
    """

    def __init__(self, fixed: Iterable[str]) -> None:
        self._taken = set(fixed)

    def add(self, name: str) -> str:
        """Returns ``name``, or one that is like it and free."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name
