"""task=characters: a language model of the characters of a text file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from seqrnn import metrics
from seqrnn.errors import ConfigError, DataError
from seqrnn.registry import register
from seqrnn.rundir.formats import Picture
from seqrnn.tables.files import checksum
from seqrnn.tasks.protocol import Batch, Chunk, Feed, Suggestions
from seqrnn.tasks.text_files import read_text, sources_of

Share = Annotated[float, Field(gt=0, lt=1)]
Codes = NDArray[np.int64]
LEAST_CHARACTERS = 1_000  # of a text
MOST_CLASSES = 4_096  # different characters and the class of unknown ones
MOST_JUDGED = 2**23  # outputs of an evaluation, which are held in memory and stored
STRETCH = 1_000  # characters that a stream of an evaluation should have at least
MOST_STRETCHES = 32
WARMUP = 128  # characters before a stretch of an evaluation, which set the state
STREAM, MOST_STREAMS, WINDOW = 500, 32, 64  # suggested: characters of a stream at least, streams, timesteps
UPDATES, MOST_EPOCHS = 3_000, 100  # suggested
SAMPLE = 600  # characters that the trained network writes
SHOWN = {"\n": "↵", "\t": "⇥", " ": "␣"}  # names of classes that could not be seen
STRENGTHS = (0.1, 1.0, 3.0, 10.0, 30.0, 100.0)  # of the smoothing of the bigram


@register("task", "characters")
class Characters:
    """The input is a character of a text, one-hot, and the target the character that follows it.

    The beginning of the text is trained on, what follows is validated on, and the end is tested on. The classes are
    the characters of the training part, in the order of their code points; a character that is not among them is of
    one more class, ``unknown``, the last. The training part is cut into as many streams of equal length as the
    schedule has, which are read from their beginnings to their ends, in order, so that the state can be carried from
    window to window; fewer characters than there are streams are left out at its end. The other parts are cut into at
    most 32 stretches that are read side by side, with the 128 characters before each, which set the state and do not
    count: every character is predicted once. Of very long parts, the beginning is judged.

    Scores are the cross-entropy in nats (``loss``), in bits per character (``bpc``), its exponential (``perplexity``,
    per character) and the accuracy. The trivial predictors are the frequencies of characters in the training part
    (unigram), with one added to each count, and the frequencies of characters after the present one (bigram),
    smoothed by the unigram: (n(a, b) + α p(b)) / (n(a) + α), a Dirichlet prior (MacKay & Peto 1995). Its strength α
    has the best leave-one-out likelihood of the training part among six values.

    At its end, the trained network writes a text: after the 128 characters before the test part, it draws a character
    from the probabilities that it outputs (temperature 1), reads it, and draws the next.

    Source: the next-character models of Sutskever, Martens & Hinton 2011, "Generating text with recurrent neural
    networks", and Graves 2013, arXiv:1308.0850, section 3.
    """

    kind: Literal["classification"] = "classification"
    loss = "cross_entropy"
    headline = "bpc"
    higher_is_better = frozenset({"accuracy"})
    picture = Picture(name="text")
    data_note_warns = False
    smoke: ClassVar = {"synthetic": True}

    def __init__(
        self, seed: int, *, path: str | None, synthetic: bool, encoding: str, validation: Share, test: Share
    ) -> None:
        if validation + test >= 1:
            raise ConfigError(f"task.validation={validation}, task.test={test}: they should be less than 1 together")
        self.seed, self.path, self.synthetic, self.encoding = seed, path, synthetic, encoding
        self.shares = validation, test

    @cached_property
    def text(self) -> Text:
        """The text, read and divided."""
        if self.path is None and not self.synthetic:
            raise ConfigError("task.path=null: which file? Write task.path=FILE (smoke=true generates a text)")
        sources = sources_of(self.path, self.seed)
        name = sources[0].name if len(sources) == 1 else f"{len(sources):,} files"
        return divided(read_text(sources, self.encoding), name, *self.shares)

    @property
    def input_size(self) -> int:
        return len(self.text.vocabulary) + 1

    output_size = input_size

    @property
    def classes(self) -> tuple[str, ...]:
        return (*(SHOWN.get(character, character) for character in self.text.vocabulary), "unknown")

    def train(self, epoch: int, streams: int) -> Sequence[Batch]:
        return [self._streams(streams)]

    def _streams(self, streams: int) -> TextBatch:
        first = self.text.begins[0]
        predicted = self.text.begins[1] - first - 1
        streams = min(streams, predicted)
        each = predicted // streams
        begins = first + each * np.arange(streams)
        return TextBatch(self.text.codes, self.input_size, begins, np.zeros_like(begins), begins + each)

    def validation(self) -> Sequence[Batch]:
        return [self._stretches(*self.text.begins[1:3])]

    def test(self) -> Sequence[Batch]:
        return [self._stretches(*self.text.begins[2:4])]

    def _stretches(self, begin: int, end: int) -> TextBatch:
        """Returns the batch in which the characters from ``begin`` to ``end`` − 1 are predicted, once each."""
        end = min(end, begin + self._most_judged)
        streams = min(MOST_STRETCHES, max(1, (end - begin) // STRETCH))
        firsts = begin + (end - begin) * np.arange(streams + 1) // streams  # the first character that each predicts
        reads = np.maximum(firsts[:-1] - 1 - WARMUP, 0)
        return TextBatch(self.text.codes, self.input_size, reads, firsts[:-1] - 1 - reads, firsts[1:] - 1)

    @property
    def _most_judged(self) -> int:
        return max(1, MOST_JUDGED // self.input_size)

    def metrics(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Returns bits per character, the perplexity per character, and the accuracy."""
        nats = float(np.mean(-log_probabilities(outputs, targets)))
        return {
            "bpc": nats / math.log(2),
            "perplexity": math.exp(min(nats, 700.0)),
            **metrics.classification(outputs, targets),
        }

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        unigram, bigram = (torch.from_numpy(np.log(shares)) for shares in (self._unigram, self._bigram))
        return {
            "bigram": lambda chunk: bigram[chunk.inputs.argmax(dim=-1)],
            "unigram": lambda chunk: unigram.expand(*chunk.targets.shape, self.output_size),
        }

    @cached_property
    def _unigram(self) -> NDArray[np.float64]:
        counts = np.bincount(self.text.training, minlength=self.output_size) + 1.0
        shares: NDArray[np.float64] = counts / counts.sum()
        return shares

    @cached_property
    def _bigram(self) -> NDArray[np.float64]:
        pairs = np.zeros((self.output_size, self.output_size))
        np.add.at(pairs, (self.text.training[:-1], self.text.training[1:]), 1)
        totals, prior = pairs.sum(axis=1, keepdims=True), self._unigram
        rows, columns = np.nonzero(pairs)
        seen = pairs[rows, columns]

        def left_out(strength: float) -> float:
            shares = (seen - 1 + strength * prior[columns]) / (totals[rows, 0] - 1 + strength)
            return float(np.sum(seen * np.log(shares)))

        best = max(STRENGTHS, key=left_out)
        shares: NDArray[np.float64] = (pairs + best * prior) / (totals + best)
        return shares

    def generate_with(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """Returns ``sample``, the classes of the characters that the trained network writes."""
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed])))
        begin = self.text.begins[2]
        logits = np.zeros(self.output_size)
        for code in self.text.codes[max(0, begin - WARMUP) : begin]:
            logits = feed(self._one_hot(code))
        written = np.zeros(SAMPLE, np.int64)
        for number in range(SAMPLE):
            shares = metrics.probabilities(logits.astype(np.float64))
            written[number] = min(int(np.searchsorted(shares.cumsum(), rng.random())), self.output_size - 1)
            logits = feed(self._one_hot(written[number]))
        return {"sample": written}

    def _one_hot(self, code: np.int64) -> NDArray[np.float32]:
        inputs = np.zeros(self.input_size, np.float32)
        inputs[code] = 1
        return inputs

    def suggest(self) -> Suggestions:
        """Returns lengths that suit the text: as many epochs as make some thousand updates, but at least one."""
        streams = max(1, min(MOST_STREAMS, len(self.text.training) // STREAM))
        each = -(-(len(self.text.training) // streams) // WINDOW)  # updates
        return Suggestions(min(MOST_EPOCHS, max(1, round(UPDATES / each))), streams, WINDOW)

    def fingerprint(self) -> str:
        return checksum(sources_of(self.path, self.seed))

    @property
    def data_note(self) -> str:
        """What the data is, in a line."""
        text = self.text
        counts = np.diff(text.begins)
        return (
            f"{text.name}: {len(text.codes):,} characters, {len(text.vocabulary):,} different ones in the "
            f"{counts[0]:,} that are trained on"
        )

    @property
    def notes(self) -> list[str]:
        """What was noticed, a line each."""
        text, lines = self.text, []
        for name, begin, end in zip(("validation", "test"), text.begins[1:3], text.begins[2:4], strict=True):
            unknown = np.flatnonzero(text.codes[begin:end] == len(text.vocabulary))
            if len(unknown):
                lines.append(
                    f"{name}: {len(unknown):,} of {end - begin:,} characters are not in the training part; they are "
                    "of the class unknown"
                )
            if end - begin > self._most_judged:
                lines.append(f"{name}: the first {self._most_judged:,} of {end - begin:,} characters are judged")
        return lines


@dataclass(frozen=True)
class Text:
    """A text as classes of characters.

    Args:
        name: of its file.
        codes: (T,) the class of each character; that of unknown ones is as large as the vocabulary.
        vocabulary: the characters of the training part, in the order of their classes.
        begins: where training, validation and test part begin, and where the text ends.
    """

    name: str
    codes: Codes
    vocabulary: str
    begins: tuple[int, int, int, int]

    @property
    def training(self) -> Codes:
        return self.codes[: self.begins[1]]


def divided(text: str, name: str, validation: float, test: float) -> Text:
    """Divides a text into its parts, and its characters into classes.

    Raises:
        DataError: it is too short, or has too many different characters.
    """
    count = len(text)
    if count < LEAST_CHARACTERS:
        raise DataError(f"{name}: has {count:,} characters; {LEAST_CHARACTERS:,} are the least that can be divided")
    judged = max(2, round(test * count))
    validated = max(2, round(validation * count))
    first = count - judged - validated
    if first < 2:
        raise DataError(
            f"task.validation={validation}, task.test={test}: leave {max(first, 0)} of {count:,} characters for the "
            "training"
        )
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    vocabulary = np.unique(points[:first])
    if len(vocabulary) >= MOST_CLASSES:
        raise DataError(
            f"{name}: has {len(vocabulary):,} different characters; {MOST_CLASSES - 1:,} are the most. Is it a text, "
            "and task.encoding right?"
        )
    found = np.searchsorted(vocabulary, points).clip(max=len(vocabulary) - 1)
    codes = np.where(vocabulary[found] == points, found, len(vocabulary)).astype(np.int64)
    return Text(name, codes, "".join(map(chr, vocabulary)), (0, first, first + validated, count))


def log_probabilities(logits: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the logarithm of the probability of a class (N,) each, of logits (N, O)."""
    largest = logits.max(axis=-1).astype(np.float64)
    total = np.log(np.exp(logits - largest[:, None]).sum(axis=-1))
    own: NDArray[np.float64] = logits[np.arange(len(classes)), classes] - largest - total
    return own


class TextBatch:
    """B stretches of a text that are read side by side; the shorter ones are padded at their end.

    Args:
        codes: (T,) classes of the characters of the whole text.
        size: I, the number of classes.
        begins: (B,) the character that each stretch reads first.
        warmup: (B,) how many characters each reads before the first whose successor counts.
        ends: (B,) behind the character that each reads last.
    """

    def __init__(self, codes: Codes, size: int, begins: Codes, warmup: Codes, ends: Codes) -> None:
        self.codes, self.size, self.begins, self.warmup, self.ends = codes, size, begins, warmup, ends
        self.streams, self.timesteps = len(begins), int((ends - begins).max())

    def read(self, start: int, stop: int) -> Chunk:
        steps = np.arange(start, stop)[:, None]
        places = self.begins + steps  # (T, B)
        valid = (steps >= self.warmup) & (places < self.ends)
        present, following = (
            torch.from_numpy(self.codes[np.minimum(one, len(self.codes) - 1)]) for one in (places, places + 1)
        )
        inputs = torch.zeros(*present.shape, self.size).scatter_(-1, present[..., None], 1.0)
        starts = torch.from_numpy(np.broadcast_to(steps == 0, places.shape).copy())
        return Chunk(inputs, following, torch.from_numpy(valid), starts)
