"""task=sincos: cosine from sine, an example that needs a memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import ClassVar, Literal

import torch
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Count
from seqrnn.errors import ConfigError
from seqrnn.registry import register
from seqrnn.rundir.formats import Picture
from seqrnn.tasks.protocol import Batch, Chunk, Stored, stored

MOST_IN_MEMORY = 2**24  # timesteps


@register("task", "sincos")
class SinCos:
    """Piece n = 0, 1, …: ``points`` points of [nπ, (n + 1)π], both ends included; input sin, target cos.

    With ``continuous`` all pieces are one long sequence; without, each is a sequence of its own. A sine value alone
    does not determine the cosine: at the first point of a piece, where sin(nπ) = 0, cos is +1 or −1. A network whose
    state is reset before each piece can do no better there than 0, which is the ``floor`` baseline.

    The test pieces follow the training pieces, and the validation pieces follow the test pieces. A continuous
    evaluation starts at piece 0, so that the network reaches the judged pieces with its state; the targets before
    them are not valid. The wave is periodic: every piece has the values of every other, up to their sign, so
    validation and test data hold nothing that is not in the training data.
    """

    input_size = 1
    output_size = 1
    kind: Literal["regression"] = "regression"
    metrics = staticmethod(metrics.regression)

    data_note = "the wave is periodic: validation and test pieces repeat the training pieces"
    validation_is_test = True

    smoke: ClassVar = {"train_pieces": 30, "test_pieces": 10, "points": 20}

    def __init__(
        self,
        seed: int,
        *,
        train_pieces: Count,
        test_pieces: Count,
        points: Count,
        continuous: bool,
        loss: Literal["mse", "l1"],
    ) -> None:
        timesteps = (train_pieces + 2 * test_pieces) * points
        if timesteps > MOST_IN_MEMORY:
            raise ConfigError(
                f"task.train_pieces={train_pieces}, task.test_pieces={test_pieces}, task.points={points}: points · "
                f"(train_pieces + 2 · test_pieces) = {timesteps:,} timesteps are all held in memory; make it at most "
                f"{MOST_IN_MEMORY:,}"
            )
        self.train_pieces, self.test_pieces, self.points = train_pieces, test_pieces, points
        self.continuous, self.loss = continuous, loss
        self.picture = Picture(name="pieces", axis="t / π (half waves)", length=points, input="sin t", target="cos t")
        if not continuous:
            self.continued = {"continuous": True}
            self.conditional_floors = ("floor (fresh starts)",)
        # Two neighbouring points show whether the sine rises or falls. Where two pieces meet, the same point comes
        # twice, so three are needed.
        self.reach = 3 if continuous else 2
        self._train = cache(self._build)  # all epochs are the same

    def _pieces(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Returns inputs and targets of pieces ``first`` to ``last`` − 1, (points, last − first, 1)."""
        steps = torch.linspace(0, math.pi, self.points, dtype=torch.float64)
        times = torch.arange(first, last, dtype=torch.float64) * math.pi + steps.unsqueeze(1)
        return torch.sin(times).unsqueeze(-1), torch.cos(times).unsqueeze(-1)

    def train(self, epoch: int, streams: int) -> Sequence[Batch]:
        return self._train(streams)

    def _build(self, streams: int) -> Sequence[Batch]:
        if not self.continuous:
            pieces = self._pieces(0, self.train_pieces)
            return [
                stored(*(values[:, first : first + streams].contiguous() for values in pieces))
                for first in range(0, self.train_pieces, streams)
            ]
        streams = min(streams, self.train_pieces)
        each = self.train_pieces // streams  # pieces per stream; fewer than ``streams`` pieces are left over, unused
        inputs, targets = (_joined(values, streams) for values in self._pieces(0, each * streams))
        return [stored(inputs, targets)]

    def validation(self) -> Sequence[Batch]:
        return [self._evaluation(self.train_pieces + self.test_pieces)]

    def test(self) -> Sequence[Batch]:
        return [self._evaluation(self.train_pieces)]

    def rollout(self, timesteps: int, streams: int) -> Batch | None:
        """Returns the wave from piece 0 on; None where each piece is a sequence of its own."""
        if not self.continuous:
            return None
        inputs, targets = (_joined(values, 1) for values in self._pieces(0, -(-timesteps // self.points)))
        return stored(inputs[:timesteps], targets[:timesteps])

    def _evaluation(self, first: int) -> Stored:
        """Returns pieces 0 to ``first + test_pieces`` − 1, with valid targets in the last ``test_pieces`` of them."""
        last = first + self.test_pieces
        inputs, targets = self._pieces(0, last)
        valid = (torch.arange(last) >= first).expand(self.points, last)
        if self.continuous:
            inputs, targets = _joined(inputs, 1), _joined(targets, 1)
            valid = valid.T.reshape(-1, 1)
        return stored(inputs, targets, valid)

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        predictors: dict[str, Callable[[Chunk], Tensor]] = {
            "constant (0)": lambda chunk: torch.zeros_like(chunk.targets),
            "sine itself": lambda chunk: chunk.inputs,
        }
        if not self.continuous:
            predictors["floor (fresh starts)"] = lambda chunk: chunk.targets * ~chunk.starts.unsqueeze(-1)
        return predictors


def _joined(pieces: Tensor, streams: int) -> Tensor:
    """Joins consecutive pieces end to end: (points, pieces, 1) -> (points · pieces / streams, streams, 1)."""
    points, count, _ = pieces.shape
    return pieces.permute(1, 0, 2).reshape(streams, count // streams * points, 1).permute(1, 0, 2)
