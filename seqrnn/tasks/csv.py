"""task=csv: forecasts, regressions and classifications of the user's own tables (CSV, gzip, zip, Parquet)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Count, Natural
from seqrnn.errors import ConfigError
from seqrnn.forecasting.autoregression import RidgeAutoregression
from seqrnn.forecasting.metrics import mean, rmse
from seqrnn.forecasting.report import Report, make_report, point_scores
from seqrnn.forecasting.verdict import LINEAR
from seqrnn.registry import register
from seqrnn.rundir.names import DATA, PREPROCESSING
from seqrnn.tables.cells import Delimiter, Encoding, ReadOptions
from seqrnn.tables.dataset import CLASS_FREQUENCIES, Dataset, describe_parts, training_rows
from seqrnn.tables.opening import open_dataset
from seqrnn.tables.preprocessing import Preprocessing
from seqrnn.tables.settings import TableSettings, problems_of
from seqrnn.tables.splits import TEST, TRAINING, VALIDATION
from seqrnn.tasks.protocol import Batch, Chunk, Predicted, Suggestions
from seqrnn.tasks.table_batch import TableBatch
from seqrnn.tasks.table_forecasts import fit_linear, forecasts_of, in_units, labels_of, naive_outputs

Share = Annotated[float, Field(gt=0, lt=1)]
Columns = str | list[str]
EVALUATED = 1024  # sequences in a batch of an evaluation
STREAM = 250  # timesteps that a stream of training data should have at least
MOST_STREAMS = 32
WINDOW = 32  # timesteps
UPDATES = 1500  # that a short series is trained for
MOST_EPOCHS = 200


@register("task", "csv")
class Csv:
    """A table of the user's own: rows are timesteps, columns are what is known at each. conf/task/csv.yaml explains
    the settings. The data is read when it is first needed.

    ``task.kind=forecast`` predicts the next ``horizon`` values of the target at each timestep, from everything up to
    it; ``regression`` the target at the same timestep, from the inputs; ``classification`` one label per sequence.

    The end of each sequence is tested on, and what comes before it validated on. A prediction whose values lie in two
    parts counts in none, so that training ends a horizon before the validation begins. Everything that is fitted
    (scales, categories, masks) is fitted on training rows. Sequences of evaluations begin with earlier rows, which
    set the state and do not count. A classification divides whole sequences instead.
    """

    smoke: ClassVar = {"synthetic": True}
    data_note_warns = False

    def __init__(
        self,
        seed: int,
        *,
        path: str | None,
        synthetic: bool,
        kind: Literal["forecast", "regression", "classification"],
        target: Columns,
        inputs: Columns,
        known: Columns,
        categories: Columns,
        time: Columns | None,
        time_format: str | None,
        timezone: str | None,
        group: str | None,
        horizon: Annotated[int, Field(ge=1, le=10_000)],
        mode: Literal["direct", "recursive"],
        resample: str | None,
        sort: bool,
        gaps: Literal["auto", "fill", "ignore", "error"],
        calendar: Literal["auto", "none"],
        missing: Literal["mask", "interpolate", "drop"],
        unknown_categories: Literal["error", "ignore"],
        log: bool,
        difference: bool | Literal["auto"],
        split: Literal["auto", "time", "date", "group"],
        validation: Share,
        test: Share,
        season: Count | Literal["auto"],
        warmup: Natural | Literal["auto"],
        loss: Literal["mse", "l1"],
        delimiter: Delimiter,
        decimal: Literal[".", ","],
        thousands: Literal[".", ",", " ", "'"] | None,
        encoding: Encoding,
        missing_values: list[str],
    ) -> None:
        self.seed, self.synthetic = seed, synthetic
        is_classification = kind == "classification"
        self.kind: Literal["regression", "classification"] = "classification" if is_classification else "regression"
        self.loss = "cross_entropy" if is_classification else loss
        generated = path is None and is_classification
        self.settings = TableSettings(
            path=path,
            kind=kind,
            horizon=horizon,
            mode=mode,
            target=_columns(target),
            inputs=_columns(inputs),
            known=_names(known),
            categories=_names(categories),
            time=None if time is None else _columns(time),
            time_format=time_format,
            timezone=timezone,
            group="recording" if generated else group,
            resample=resample,
            sort=sort,
            gaps=gaps,
            calendar=calendar,
            missing=missing,
            unknown_categories=unknown_categories,
            log=log,
            difference=difference,
            split=split,
            validation=validation,
            test=test,
            season=season,
            warmup=warmup,
            read=ReadOptions(
                delimiter=delimiter,
                decimal=decimal,
                thousands=thousands,
                encoding=encoding,
                missing_values=tuple(missing_values),
            ),
        )
        problems = problems_of(self.settings)
        if problems:
            raise ConfigError(*problems)
        self._batches: dict[int, Sequence[Batch]] = {}  # by streams; all epochs of a series read the same data

    @cached_property
    def data(self) -> Dataset:
        """The table, read and prepared."""
        if self.settings.path is None and not self.synthetic:
            raise ConfigError("task.path=null: which file? Write task.path=FILE (smoke=true generates a table)")
        return open_dataset(self.settings, self.seed)

    @property
    def preprocessing(self) -> Preprocessing:
        """What was fitted on the training rows."""
        return self.data.preprocessing

    @property
    def missing_targets(self) -> bool:
        """Whether a prediction has several values, of which some are missing. A single one that is missing does not
        count at all."""
        return self.data.evaluated.misses_targets

    @property
    def input_size(self) -> int:
        return self.preprocessing.input_size

    @property
    def output_size(self) -> int:
        return self.preprocessing.output_size

    def train(self, epoch: int, streams: int) -> Sequence[Batch]:
        if self.kind == "classification":
            return self._shuffled(epoch, streams)
        if streams not in self._batches:
            self._batches[streams] = [self._stretches(streams)]
        return self._batches[streams]

    def _stretches(self, streams: int) -> TableBatch:
        """Returns the training rows of all sequences, one behind the other, cut into streams of equal length. The
        oldest rows, fewer than there are streams, are left out."""
        spans = training_rows(self.data)
        count = int((spans[:, 1] - spans[:, 0]).sum())
        streams = min(streams, count)
        each = count // streams
        begins = count - each * streams + each * np.arange(streams)
        lengths = np.full(streams, each)
        return TableBatch(self.data, begins, lengths, each, TRAINING, [""] * streams, spans=spans)

    def _shuffled(self, epoch: int, streams: int) -> Sequence[Batch]:
        """Returns the training sequences in an order of the epoch, all padded to the length of the longest."""
        chosen = np.flatnonzero(self.data.regions[:, TRAINING, 0] >= 0)
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, epoch])))
        return self._sequences(rng.permutation(chosen), TRAINING, streams)

    def validation(self) -> Sequence[Batch]:
        return self._evaluated(VALIDATION)

    def test(self) -> Sequence[Batch]:
        return self._evaluated(TEST)

    def _evaluated(self, part: int) -> Sequence[Batch]:
        data = self.data
        chosen = np.flatnonzero(data.regions[:, part, 0] >= 0)
        if self.kind == "classification":
            return self._sequences(chosen, part, EVALUATED)
        begins, ends, names = [], [], []
        for sequence in chosen:
            first, (begin, end) = data.first[sequence], data.regions[sequence, part]
            origin = max(begin - self.preprocessing.is_forecast, first)  # the timestep before predicts the first one
            counting = np.flatnonzero(data.parts[origin:end] == part)
            if len(counting):
                begins.append(max(first, origin - self.preprocessing.warmup))
                ends.append(origin + counting[-1] + 1)
                names.append(data.keys[sequence])
        starts, lengths = np.array(begins), np.array(ends) - np.array(begins)
        return [
            TableBatch(data, starts[which], lengths[which], int(lengths.max()), part, names[which])
            for which in _slices(len(names), EVALUATED)
        ]

    def _sequences(self, chosen: NDArray[np.int64], part: int, streams: int) -> Sequence[Batch]:
        """Returns whole labelled sequences in batches."""
        data = self.data
        longest = int((data.last[chosen] - data.first[chosen] + 1).max())
        return [
            TableBatch(
                data,
                data.first[numbers],
                data.last[numbers] - data.first[numbers] + 1,
                longest,
                part,
                [data.keys[number] for number in numbers],
                labels=data.labels[numbers],
            )
            for numbers in (chosen[which] for which in _slices(len(chosen), streams))
        ]

    def metrics(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Returns scores of what ``judged`` returns. With several targets, whose units may differ, the errors are in
        standard deviations of each, a score is the mean of those of the targets, and the RMSE of each target in its
        units follows."""
        if self.kind == "classification":
            return metrics.classification(outputs, targets)
        made, actual = outputs / self.units, targets / self.units
        if self.preprocessing.is_forecast:
            scores = point_scores(actual[:, None], made[:, None], self._naive_scale / self.units)
        else:
            scores = _over_targets(made[:, 0], actual[:, 0])
        names = self.preprocessing.targets
        if len(names) > 1:
            errors = rmse(targets, outputs, (0, 1))
            scores |= {f"rmse_{name}": float(error) for name, error in zip(names, errors, strict=True)}
        return scores

    def judged(self, predictions: Predicted) -> tuple[NDArray[Any], NDArray[Any]]:
        """Returns what is predicted and what came, in the units of the table: (N', steps ahead, targets) each. Of a
        classification, outputs (N', O) and classes (N',)."""
        valid = predictions.valid
        if self.kind == "classification":
            return predictions.outputs[valid], predictions.targets[valid]
        forecast, actual = in_units(predictions)
        return forecast[valid], actual[valid]

    def report(self, validation: Mapping[str, Predicted], test: Mapping[str, Predicted]) -> Report | None:
        if self.kind == "classification":
            return None
        return make_report(
            forecasts_of(validation),
            forecasts_of(test),
            labels_of(self.data, next(iter(test.values())), self.units),
        )

    @property
    def classes(self) -> tuple[str, ...]:
        return self.preprocessing.classes

    @property
    def headline(self) -> str:
        return "accuracy" if self.kind == "classification" else "rmse"

    @cached_property
    def units(self) -> NDArray[np.float64]:
        """(targets,) by which errors are divided: 1, or the standard deviations over the training rows where there
        are several targets."""
        return np.array(self.data.summary.deviations or (1.0,))

    @cached_property
    def _naive_scale(self) -> NDArray[np.float64]:
        """(targets,) of the errors of MASE."""
        changes = [np.abs(np.diff(values, axis=0)) for values in self._training_values]
        return mean(np.concatenate(changes), 0)

    @property
    def _training_values(self) -> list[NDArray[np.float64]]:
        """The targets of each sequence's training rows in their units, (T, targets)."""
        found = [self.data.targets[begin:end] for begin, end in training_rows(self.data)]
        return [np.exp(values) for values in found] if self.preprocessing.log else found

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        if self.kind == "classification":
            return {CLASS_FREQUENCIES: self._class_frequencies}
        predictors: dict[str, Callable[[Chunk], Tensor]] = {}  # the first ones stand in titles
        if self.linear is not None:
            predictors[LINEAR] = partial(self._predict_linear, self.linear)
        if self.preprocessing.is_forecast:
            predictors["persistence"] = partial(self._naive, period=None)
            if self.data.season > 1:
                predictors[f"seasonal naive ({self.data.season})"] = partial(self._naive, period=self.data.season)
        name = "mean change" if self.preprocessing.difference else "mean"
        predictors[name] = _zeros
        return predictors

    @cached_property
    def linear(self) -> RidgeAutoregression | None:
        """The linear model, fitted to the training data; None: there is too little of it. It predicts all steps of a
        horizon directly, whatever the network does."""
        return fit_linear(replace(self._stretches(1), data=self.data.evaluated))

    def _predict_linear(self, model: RidgeAutoregression, chunk: Chunk) -> Tensor:
        return torch.from_numpy(model(chunk.inputs.numpy(), chunk.starts.numpy())).to(chunk.targets.dtype)

    def _naive(self, chunk: Chunk, period: int | None) -> Tensor:
        made = naive_outputs(chunk.inputs.numpy(), self.preprocessing.evaluated, period)
        return torch.from_numpy(made).to(chunk.targets.dtype)

    def _class_frequencies(self, chunk: Chunk) -> Tensor:
        logits = torch.from_numpy(self.data.summary.class_logits(self.classes))
        return logits.expand(*chunk.targets.shape, self.output_size)

    def suggest(self) -> Suggestions:
        """Returns lengths that suit the data: streams of some hundred timesteps, and as many epochs as make some
        thousand updates, but at least one."""
        data = self.data
        if self.kind == "classification":
            chosen = data.regions[:, TRAINING, 0] >= 0
            count = int(chosen.sum())
            longest = int((data.last - data.first + 1)[chosen].max())
            streams = min(MOST_STREAMS, max(1, count // 8))
            return self._suggestions(streams, longest, -(-count // streams))
        spans = training_rows(data)
        count = int((spans[:, 1] - spans[:, 0]).sum())
        streams = min(MOST_STREAMS, max(1, count // STREAM))
        window = min(WINDOW, max(1, count // streams))
        return self._suggestions(streams, window, -(-(count // streams) // window))

    def _suggestions(self, streams: int, window: int, updates_per_epoch: int) -> Suggestions:
        return Suggestions(min(MOST_EPOCHS, max(1, round(UPDATES / updates_per_epoch))), streams, window)

    def documents(self) -> Mapping[str, BaseModel]:
        return {PREPROCESSING: self.preprocessing, DATA: self.data.summary}

    def fingerprint(self) -> str:
        return self.data.summary.sha256

    @property
    def all_inputs(self) -> Mapping[str, Any]:
        """The setting with which all columns are read that can be."""
        return {"inputs": "auto"} if self.settings.inputs != "auto" else {}

    @property
    def is_forecast(self) -> bool:
        return self.settings.kind == "forecast"

    @property
    def data_note(self) -> str:
        """What the data is, in a line."""
        summary = self.data.summary
        file = summary.files[0].name if len(summary.files) == 1 else f"{len(summary.files):,} files"
        count = f"{summary.sequences:,} sequences, " if summary.sequences > 1 else ""
        every = "" if summary.step == "row" else f", one per {summary.step}"
        return f"{file}: {count}{summary.timesteps:,} timesteps{every}"

    @property
    def notes(self) -> Sequence[str]:
        """What was guessed and noticed, a line each."""
        return [*self.data.summary.notes, describe_parts(self.data)]


def _over_targets(outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
    """Returns the scores of a regression (N', K), each the mean over the targets of which a value is known;
    ``max_error`` is the largest one."""
    known = np.flatnonzero(~np.isnan(targets).all(axis=0))
    each = [metrics.regression(outputs[:, k], targets[:, k]) for k in known]
    found = {name: float(np.mean([scores[name] for scores in each])) for name in each[0]}
    return found | {"max_error": max(scores["max_error"] for scores in each)}


def _zeros(chunk: Chunk) -> Tensor:
    """Predicts the mean of the training rows, which is 0 in the network's space."""
    return torch.zeros_like(chunk.targets)


def _columns(names: Columns) -> Any:
    """Returns ``auto``, or the names of columns as a tuple."""
    return "auto" if names == "auto" else _names(names)


def _names(names: Columns) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _slices(count: int, most: int) -> list[slice]:
    return [slice(first, first + most) for first in range(0, count, most)]
