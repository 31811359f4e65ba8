"""Recursive forecasts: each is what the network predicts if it reads its own predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU64, make_network, random_batch
from numpy.typing import NDArray

from seqrnn import recursion


class Echo:
    """Forecasts of a network of two inputs and outputs whose outputs are its next inputs, as they are."""

    def __init__(self) -> None:
        self.made: list[NDArray[Any]] = []

    def take(self, outputs: NDArray[Any]) -> None:
        self.made.append(outputs)

    def inputs(self) -> NDArray[Any]:
        return self.made[-1]

    @property
    def outputs(self) -> NDArray[Any]:
        return np.stack(self.made, axis=1)


@pytest.mark.first(4)
@pytest.mark.parametrize("kernel", ["auto", "torch"])
@pytest.mark.parametrize(
    ("model", "changes"),
    [("gru", {}), ("lstm", {}), ("gru", {"num_layers": 2}), ("tcn", {}), ("lru", {}), ("esn", {})],
)
def test_a_forecast_is_that_of_the_sequence_with_the_predictions_behind_it(
    model: str, changes: dict[str, Any], kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recursion, "ORIGINS_AT_ONCE", 15)
    monkeypatch.setattr(recursion, "CHUNK", 2)
    batch, network = random_batch(20, 3, starts=0.1), make_network(model, kernel=kernel, **changes).eval()
    wanted = np.random.default_rng(0).random((20, 3)) < 0.5
    wanted[:5] = False
    seen = np.zeros_like(wanted)
    for times, streams, forecasts in recursion.forecast(network, batch, wanted, lambda *_: Echo(), 4, CPU64):
        seen[times, streams] = True
        for time, stream, found in zip(times, streams, forecasts.outputs, strict=True):
            starts = np.flatnonzero(batch.chunk.starts[: time + 1, stream].numpy())
            begin = int(starts[-1]) if len(starts) else 0
            read = batch.chunk.inputs[begin : time + 1, stream : stream + 1]
            for step in range(4):
                with torch.inference_mode():
                    outputs, _ = network(read, network.initial_state(1))
                np.testing.assert_allclose(found[step], outputs[-1, 0], rtol=1e-9, atol=1e-12)
                read = torch.cat([read, outputs[-1:]])
    np.testing.assert_array_equal(seen, wanted)


def test_no_origin_makes_no_forecast() -> None:
    batch, network = random_batch(5, 2), make_network("gru").eval()
    nothing = np.zeros((5, 2), bool)
    assert not list(recursion.forecast(network, batch, nothing, lambda *_: Echo(), 4, CPU64))
