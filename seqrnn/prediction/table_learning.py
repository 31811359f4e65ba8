"""Answers rows of a table as they come, and learns from the true values among them.

H steps of the horizon, K targets, O outputs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Many
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn.checkpoints.file import Tree
from seqrnn.errors import DataError
from seqrnn.prediction.learning import Learner
from seqrnn.streaming.table_stream import EncodedRow, TableRows, sequence_of, sequence_tree


class Unjudged:
    """The latest timesteps of a sequence, whose true values have not all arrived yet: as many as the horizon has.

    Args:
        origins: (K,) of each, and whether its forecast may be judged.
        values: (K,), the values of the targets there.
    """

    def __init__(self, horizon: int) -> None:
        self.origins: deque[tuple[NDArray[np.float64], bool]] = deque(maxlen=horizon)
        self.values: deque[NDArray[np.float64]] = deque(maxlen=horizon)

    def tree(self, key: str) -> Tree:
        origins = [[torch.from_numpy(origins.copy()), usable] for origins, usable in self.origins]
        return {"key": key, "origins": origins, "values": [torch.from_numpy(each.copy()) for each in self.values]}

    def restore(self, tree: Tree) -> None:
        self.origins.extend((origins.numpy(), bool(usable)) for origins, usable in tree["origins"])
        self.values.extend(values.numpy() for values in tree["values"])


class LearningTableStream:
    """Answers rows of a table, and learns from the true values as they arrive: those of a forecast with the rows that
    follow, those of a regression or classification with their own row. Rows of several sequences may come in any
    order."""

    def __init__(self, learner: Learner, rows: TableRows) -> None:
        self.learner, self.rows = learner, rows
        self.unjudged: dict[str, Unjudged] = {}

    @property
    def list_columns(self) -> Many[str]:
        return self.rows.preprocessing.columns

    def check_columns(self, names: Many[str]) -> None:
        self.rows.reader.check_columns(names)

    def answer(self, values: dict[str, Any]) -> dict[str, Any]:
        """Returns the answer to a row and, where true values have become known, the timestep that they belong to, and
        the losses there of the network as it learns and as it was trained.

        Raises:
            DataError: it cannot be used, and has changed nothing.
            Diverged: the loss or the gradient became NaN or infinite.
        """
        encoded = self.rows.encode(values)
        own = self._own_target(encoded)
        if encoded.inputs is not None:
            self.learner.check(encoded.inputs)
        place = self.rows.enter(encoded)
        self.learner.rows += 1
        if encoded.inputs is None or encoded.start:
            self.unjudged[encoded.key] = Unjudged(self.rows.preprocessing.steps_ahead)
        if encoded.inputs is None:
            return self.rows.skipped(encoded)
        self.learner.select(encoded.key)
        judged = self._judge_forecast(encoded)
        outputs = self.learner.feed(encoded.inputs, encoded.start)
        timestep = place.timesteps - 1
        if own is not None:
            judged = {"judged": timestep, **self.learner.judge(timestep, own)}
        found = self.rows.answer(encoded, outputs, timestep)
        return found | {"updates": self.learner.updates} | judged

    def _known(self, encoded: EncodedRow) -> NDArray[np.float64]:
        """Returns the values (K,) of the targets in a row; NaN where one is missing."""
        return np.array([encoded.row.numbers[name][0] for name in self.rows.preprocessing.targets])

    def _own_target(self, encoded: EncodedRow) -> Any:
        """Returns the targets (O,) that a regression or a classification has in its row; None: there are none."""
        preprocessing = self.rows.preprocessing
        if preprocessing.is_forecast:
            return None
        if preprocessing.kind == "classification":
            (name,) = preprocessing.targets
            code, labels = encoded.row.codes[name][0], encoded.row.labels[name]
            if code < 0:
                return None
            if labels[code] not in preprocessing.classes:
                raise encoded.row.error(0, name, labels[code], "is a class that the run does not know")
            return preprocessing.classes.index(labels[code])
        values = self._known(encoded)
        if np.isnan(values).all() or not encoded.usable:
            return None
        return preprocessing.from_units(values[None, None, None], encoded.origins[None, None])[0, 0]

    def _judge_forecast(self, encoded: EncodedRow) -> dict[str, Any]:
        """Notes the values that have arrived for the forecast of a horizon ago, unless all are missing."""
        preprocessing = self.rows.preprocessing
        if not preprocessing.is_forecast:
            return {}
        found: dict[str, Any] = {}
        unjudged, horizon = self.unjudged[encoded.key], preprocessing.steps_ahead
        unjudged.values.append(self._known(encoded))
        if len(unjudged.origins) == horizon:
            origins, usable = unjudged.origins[0]
            values = np.stack(unjudged.values)  # (H, K)
            timestep = self.learner.timesteps - horizon
            if usable and not np.isnan(values).all():
                targets = preprocessing.from_units(values[None, None], origins[None, None])[0, 0]
                found = {"judged": timestep, **self.learner.judge(timestep, targets)}
        has_level = not any(np.isnan(encoded.latest.numbers[name][0]) for name in preprocessing.targets)
        unjudged.origins.append((encoded.origins, encoded.usable and (has_level or not preprocessing.difference)))
        return found

    def state(self) -> Tree:
        sequences = [sequence_tree(key, sequence) for key, sequence in self.rows.sequences.items()]
        unjudged = [each.tree(key) for key, each in self.unjudged.items()]
        return self.learner.state() | {"sequences": sequences, "unjudged": unjudged}

    def restore(self, tree: Tree) -> None:
        self.learner.restore(tree)
        preprocessing = self.rows.preprocessing
        try:
            self.rows.sequences = {str(one["key"]): sequence_of(one, preprocessing) for one in tree["sequences"]}
            for one in tree["unjudged"]:
                self.unjudged[str(one["key"])] = unjudged = Unjudged(preprocessing.steps_ahead)
                unjudged.restore(one)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"does not fit this run: {error!r}") from error
