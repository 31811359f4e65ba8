"""Recursive forecasts of a table: each predicted value is fed back as the next input.

B origins, H steps, K targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.tables.preprocessing import Feature, Preprocessing

Array = NDArray[Any]


class RecursiveForecasts:
    """Forecasts from B timesteps, their origins, that grow by one step at a time.

    Columns that are neither predicted nor known in advance stay as they were at the origin.

    Args:
        here: (B, ·), what is read at the origins of the present.
        origins: (B, K), the last known values of the targets in their units.
        later: the other inputs (B, ·) that are read so many timesteps after the origins: what is known in advance,
            and the calendar.
    """

    def __init__(
        self, preprocessing: Preprocessing, here: Array, origins: Array, later: Callable[[int], list[Array]]
    ) -> None:
        self.preprocessing, self.later = preprocessing, later
        self._here, self._levels = here.copy(), origins
        self._origins = origins
        self._made: list[NDArray[np.float64]] = []

    def take(self, outputs: Array) -> None:
        """Takes the outputs (B, O) of the network for the next step, and feeds them back."""
        values = self.preprocessing.to_units(outputs[None], self._levels[None])[0, :, 0]
        self._made.append(values)
        self._feed_back(values)
        self._levels = values

    def inputs(self) -> Array:
        """Returns the inputs (B, I) of the timesteps that were predicted last."""
        return np.concatenate([self._here, *self.later(len(self._made))], axis=-1).astype(np.float32)

    @property
    def values(self) -> NDArray[np.float64]:
        """The forecasts so far, (B, H, K) in units of the table."""
        return np.stack(self._made, axis=1)

    @property
    def outputs(self) -> NDArray[np.float64]:
        """The forecasts (B, H · K) as outputs of a network that predicts all steps at once."""
        found: NDArray[np.float64] = self.preprocessing.evaluated.from_units(self.values[None], self._origins[None])[
            0
        ]
        return found

    def _feed_back(self, values: NDArray[np.float64]) -> None:
        """Writes predicted values (B, K) over the inputs that hold the targets."""
        preprocessing = self.preprocessing
        for begin, feature in _targets(preprocessing):
            number = preprocessing.targets.index(feature.column)
            now, was = values[:, number], self._levels[:, number]
            if preprocessing.log:
                now, was = np.log(now), np.log(was)
            self._here[:, begin] = ((now - was if preprocessing.difference else now) - feature.mean) / feature.scale
            if feature.masked:
                self._here[:, begin + feature.width - 1] = 0.0


def _targets(preprocessing: Preprocessing) -> Iterator[tuple[int, Feature]]:
    """Yields the targets among the inputs, with the first input of each."""
    begin = 0
    for feature in preprocessing.here:
        if feature.role == "target":
            yield begin, feature
        begin += feature.width
