"""task=copy: repeat symbols after a long wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Count, Size
from seqrnn.registry import register
from seqrnn.tasks.drawn import Drawn, DrawnData, class_shares
from seqrnn.tasks.protocol import Chunk

CERTAIN = 50.0  # a logit beside which others of 0 have a probability of e^−50


@register("task", "copy")
class Copy:
    """A sequence has ``delay`` + 2 · ``symbols`` timesteps. The input is ``symbols`` symbols out of ``alphabet``,
    each with equal probability; ``delay`` − 1 blanks; a delimiter; and ``symbols`` blanks. The target is blank until
    the delimiter and there, and then the symbols in their order. Inputs are one-hot; blank is class ``alphabet``, and
    the delimiter, which is no target, the last input.

    A predictor that knows where it is in the sequence, and has no memory of the symbols, has a cross-entropy of
    ``symbols`` · ln(``alphabet``) / (``delay`` + 2 · ``symbols``): 10 ln 8 / (T + 20) with the numbers of the source.

    Source: Hochreiter & Schmidhuber 1997, in the form of Arjovsky, Shah & Bengio 2016, section 5.1, where ``delay``
    is T. Their network has an output for the delimiter as well.
    """

    kind: Literal["classification"] = "classification"
    loss = "cross_entropy"

    smoke: ClassVar = {
        "delay": 5,
        "symbols": 3,
        "train_sequences": 64,
        "validation_sequences": 8,
        "test_sequences": 8,
    }

    def __init__(
        self,
        seed: int,
        *,
        delay: Count,
        symbols: Size,
        alphabet: Size,
        train_sequences: Count,
        validation_sequences: Count,
        test_sequences: Count,
    ) -> None:
        self.delay, self.symbols, self.alphabet = delay, symbols, alphabet
        self.input_size, self.output_size = alphabet + 2, alphabet + 1
        self.reach = delay + symbols + 1
        length = delay + 2 * symbols
        sequences = train_sequences, validation_sequences, test_sequences
        data = DrawnData(seed, self.draw, sequences, length=length, size=self.input_size + 1)
        self.train, self.validation, self.test = data.train, data.validation, data.test
        blank = (delay + symbols) / length
        self.shares = [(1 - blank) / alphabet] * alphabet + [blank]

    def draw(self, rng: np.random.Generator, timesteps: int, streams: int) -> Drawn:
        """Draws sequences."""
        data = rng.integers(self.alphabet, size=(self.symbols, streams))
        read = np.full((timesteps, streams), self.alphabet)
        read[: self.symbols] = data
        read[timesteps - self.symbols - 1] = self.alphabet + 1
        targets = np.full((timesteps, streams), self.alphabet)
        targets[-self.symbols :] = data
        return Drawn(np.eye(self.input_size)[read], targets)

    def metrics(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Returns the accuracy, and that on the symbols alone."""
        symbols = targets < self.alphabet
        recalled = metrics.classification(outputs[symbols], targets[symbols])["accuracy"]
        return {**metrics.classification(outputs, targets), "accuracy_symbols": recalled}

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        return {"constant (class frequencies)": class_shares(self.shares), "no memory of the symbols": self._position}

    def _position(self, chunk: Chunk) -> Tensor:
        """Returns logits (T, B, O): blank until the delimiter, and then all symbols with equal probability."""
        delimiters = chunk.inputs[..., -1]  # (T, B)
        repeating = delimiters.cumsum(dim=0) - delimiters > 0
        logits = torch.zeros(*repeating.shape, self.output_size, dtype=chunk.inputs.dtype)
        logits[..., -1] = CERTAIN * torch.where(repeating, -1.0, 1.0)
        return logits
