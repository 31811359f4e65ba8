"""task=letters: the letter sequences of Elman (1990)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Count
from seqrnn.registry import register
from seqrnn.tasks.drawn import Drawn, DrawnData, delayed
from seqrnn.tasks.protocol import Chunk

LETTERS = "bdgaiu"
FEATURES = (  # consonant, vowel, interrupted, high, back, voiced
    (1, 0, 1, 0, 0, 1),
    (1, 0, 1, 1, 0, 1),
    (1, 0, 1, 0, 1, 1),
    (0, 1, 0, 0, 1, 1),
    (0, 1, 0, 1, 0, 1),
    (0, 1, 0, 1, 1, 1),
)
SYLLABLES = ("ba", "dii", "guuu")
LONGEST = max(map(len, SYLLABLES))


@register("task", "letters")
class Letters:
    """A sequence of the syllables ba, dii and guuu, each with equal probability. The input is a letter as six
    features of 0 or 1, and the target the features of the next letter.

    The vowels can be predicted, and so can all features of a consonant but two: high and back, which are 1 in one of
    three syllables each. A third of all letters are consonants, so the floor of the squared error is
    1/3 · (2 · 2/9) / 6 = 2/81.

    Source: Elman 1990, "Finding structure in time", section "Structure in letter sequences", table 1.
    """

    input_size = 6
    output_size = 6
    kind: Literal["regression"] = "regression"
    metrics = staticmethod(metrics.regression)

    reach = LONGEST  # after the third u of guuu, the g says that a consonant follows

    smoke: ClassVar = {"length": 40, "train_sequences": 16, "validation_sequences": 4, "test_sequences": 4}

    def __init__(
        self,
        seed: int,
        *,
        length: Count,
        train_sequences: Count,
        validation_sequences: Count,
        test_sequences: Count,
        loss: Literal["mse", "half_mse"],
    ) -> None:
        self.loss = loss
        sequences = train_sequences, validation_sequences, test_sequences
        data = DrawnData(seed, self.draw, sequences, length=length, size=12)
        self.train, self.validation, self.test = data.train, data.validation, data.test
        self.rollout = data.rollout

    def draw(self, rng: np.random.Generator, timesteps: int, streams: int) -> Drawn:
        """Draws sequences."""
        shortest = min(map(len, SYLLABLES))
        chosen = rng.integers(len(SYLLABLES), size=(streams, -(-(timesteps + 1) // shortest)))
        sequences = ["".join(SYLLABLES[number] for number in row)[: timesteps + 1] for row in chosen]
        numbers = np.array([[LETTERS.index(letter) for letter in sequence] for sequence in sequences]).T
        features = np.array(FEATURES, np.float64)[numbers]  # (T + 1, B, 6)
        return Drawn(features[:-1].copy(), features[1:].copy())

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        letters = "".join(SYLLABLES)  # as frequent as in a sequence
        mean = _features(letters).mean(dim=0)
        return {
            "constant (mean)": lambda chunk: mean.to(chunk.targets.dtype).expand_as(chunk.targets),
            "floor (syllables known)": _best,
        }


def _features(letters: str) -> Tensor:
    """Returns the features (N, 6) of letters."""
    return torch.tensor([FEATURES[LETTERS.index(letter)] for letter in letters], dtype=torch.float64)


def _best(chunk: Chunk) -> Tensor:
    """Returns the features of the vowel that follows, or the mean of the consonants where a syllable ends."""
    consonants = chunk.inputs[..., 0] > 0.5  # (T, B)
    best = _features("bdg").mean(dim=0).expand(*consonants.shape, 6).clone()
    for syllable in SYLLABLES:
        consonant, vowel = _features(syllable[:2])
        begins = consonants & (chunk.inputs == consonant).all(dim=-1)
        for wait in range(len(syllable) - 1):
            best[delayed(begins, wait)] = vowel
    return best.to(chunk.targets.dtype)
