"""Predictions on whole sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from helpers import CPU64, make_network, random_batch

from seqrnn import evaluation
from seqrnn.tasks.protocol import Batch


class Made(Sequence[Batch]):
    """Batches that are made each time they are asked for."""

    def __len__(self) -> int:
        return 3

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Batch]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        return random_batch(7, 2, seed=range(len(self))[index])


def test_batches_may_be_made_anew_each_time_they_are_asked_for() -> None:
    network, made = make_network("gru"), Made()
    found = evaluation.predict(network, made, CPU64)
    expected = evaluation.predict(network, list(made), CPU64)
    assert found.outputs.shape == (7, 6, 2)
    for name in ("inputs", "targets", "outputs", "valid", "starts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
