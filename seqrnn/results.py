"""A run that has been trained, as an object: its config, scores, metrics, predictions, pictures and network."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn import plots
from seqrnn.checkpoints.init_from import check_weights, load_weights
from seqrnn.components import build_network, check_model, network_without_values
from seqrnn.device import Device, device_context
from seqrnn.errors import DataError, printable
from seqrnn.models.network import Network
from seqrnn.plots import facts
from seqrnn.plugins import load_components
from seqrnn.rundir import bounded
from seqrnn.rundir.names import BEST, SUMMARY, WEIGHTS
from seqrnn.rundir.reader import RunReader
from seqrnn.settings import Values
from seqrnn.streaming.predictor import StreamPredictor
from seqrnn.streaming.run_documents import has_preprocessing, read_preprocessing
from seqrnn.streaming.table_stream import TableRows, TableStream

PICTURES = ("loss.png", "predictions.png", "residuals.png", "horizon.png", "samples.png", "diagnosis.png")
MOST_PICTURE = 2**25  # bytes
MOST_FEATURES = 2**20  # inputs or outputs of a network
UNKNOWN: dict[str, Any] = {  # of a summary that lacks what is always asked for
    "status": "unknown", "model": "", "loss": "", "input_size": 0, "output_size": 0, "updates": 0, "test": {},
    "baselines": {},
}  # fmt: skip
COUNTS = {"timesteps", "updates", "epoch"}  # columns of the metrics
Which = Literal["tested", "best"]
NETWORKS = {"tested": WEIGHTS, "best": BEST}


class Run:
    """A run directory, read when something of it is asked for. It may come from anyone: nothing in it is executed.

    Args:
        directory: the run directory.
        plugins: modules to import that register the run's own task, model or optimizer.

    Raises:
        DataError: it is not a run directory. All attributes raise it, too, where a file is missing or damaged.
    """

    def __init__(self, directory: Path, plugins: Sequence[str] = ()) -> None:
        self.directory, self._plugins = directory, tuple(plugins)
        self._reader = RunReader(directory)

    @property
    def config(self) -> Values:
        """The config as plain values, every value resolved."""
        return self._reader.config()

    @property
    def overrides(self) -> list[str]:
        """The overrides that the run was started with."""
        return self._reader.overrides()

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json: status, test scores, baselines, times, versions."""
        return {**UNKNOWN, **self._reader.summary()}

    @property
    def metrics(self) -> Any:
        """The rows of metrics.jsonl as a pandas DataFrame; NaN where a row has no value. Counts (timesteps, updates,
        epoch) are whole numbers."""
        import pandas

        columns: dict[str, NDArray[Any]] = dict(self._reader.metrics())
        for name in COUNTS & columns.keys():
            if (np.mod(columns[name], 1) == 0).all() and (np.abs(columns[name]) < 2**53).all():
                columns[name] = columns[name].astype(np.int64)
        return pandas.DataFrame(columns)

    @property
    def predictions(self) -> dict[str, NDArray[Any]]:
        """Test inputs, targets and outputs, as in predictions.npz: (T, N, ·) each for a regression."""
        return self._reader.predictions()

    def network(self, which: Which = "tested", device: Device = "cpu") -> Network:
        """Returns the trained network in evaluation mode, in the precision of the run.

            outputs, state = network(inputs, network.initial_state(streams))  # (T, B, I) -> (T, B, O)

        Args:
            which: ``tested`` for the weights that the run was tested with, ``best`` for those of its best evaluation.
            device: ``cpu``, ``cuda`` or ``auto``.

        Raises:
            ConfigError: the config describes no network that can be built here, or there is no such device.
            DataError: the weights are missing, damaged, or those of another network; or the run needs plugins that
                ``load`` was not given.
        """
        if which not in NETWORKS:
            raise ValueError(f"network({which!r}): should be one of {', '.join(map(repr, NETWORKS))}")
        self._reader.check_plugins(self._plugins)
        load_components(self._plugins)
        model = self.config["model"]
        check_model(model)
        weights, where = self._reader.weights(NETWORKS[which]), f"{self.directory / NETWORKS[which]}: "
        sizes = self._size("input_size"), self._size("output_size")
        outline = network_without_values(model, *sizes)
        if outline is not None:
            check_weights(outline, weights, where)  # before memory is taken for a network of whatever size
        context = device_context(device, "float64" if self.config.get("precision") == "float64" else "float32")
        with torch.random.fork_rng(devices=()):  # initial weights are drawn, and replaced at once
            network = build_network(model, *sizes, "torch" if self.config.get("kernel") == "torch" else "auto")
        network.to(context.device, context.dtype)
        load_weights(network, weights, where)
        return network.eval()

    def stream(
        self, which: Which = "tested", announce: Callable[[str], None] | None = None
    ) -> StreamPredictor | TableStream:
        """Returns a predictor that is fed one timestep at a time and holds the state of the network in between.

            predictor = run.stream()
            outputs = predictor(inputs)  # (I,) -> (O,)

        That of a run of task=csv is fed rows, and predicts in the units of the table:

            answer = predictor({"day": "2024-03-01", "sales": 51.2})  # answer["sales_predicted"]

        Args:
            which: the weights, as for ``network``.
            announce: is given a line before compiled code is compiled, which is done once on a machine.

        Raises:
            ConfigError, DataError: as for ``network``.
        """
        config, input_size = self.config, self._size("input_size")
        names = {"task": config["task"]["name"], "model": config["model"]["name"]}
        predictor = StreamPredictor(self.network(which), input_size, names, announce)
        if not has_preprocessing(self.directory):
            return predictor
        preprocessing = read_preprocessing(self.directory, input_size, self._size("output_size"))
        return TableStream(predictor, TableRows.of_run(self.directory, preprocessing))

    def _size(self, name: str) -> int:
        size = self.summary[name]
        if not isinstance(size, int) or not 1 <= size <= MOST_FEATURES:
            raise DataError(
                f"{self.directory / SUMMARY}: {name}={size}: should be a number from 1 to {MOST_FEATURES:,}"
            )
        return size

    def plot(self) -> Pictures:
        """Draws the pictures of the run again, and returns them; a notebook shows them."""
        from seqrnn.diagnosis.page import draw_diagnosis  # imports matplotlib

        drawn = plots.draw(self.directory, others=[draw_diagnosis])
        return Pictures([path for path in drawn if path.suffix == ".png"])

    @property
    def pictures(self) -> Pictures:
        """The pictures that are in the directory."""
        return Pictures([self.directory / name for name in PICTURES if self._reader.has(name)])

    def __repr__(self) -> str:
        return printable(f"<seqrnn run: {self._title}, {self._status}, {self.directory}>")

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: title, scores beside those of the baselines, and pictures."""
        parts = [f"<h4>{html.escape(self._title)}</h4>", _table(self._scores)]
        parts.append(f"<p>{html.escape(self._status)} · <code>{html.escape(str(self.directory))}</code></p>")
        return "".join([*parts, self.pictures._repr_html_()])

    @cached_property
    def _title(self) -> str:
        try:
            return facts.Facts(self.config, {}).name
        except DataError:
            return "damaged config"

    @property
    def _status(self) -> str:
        try:
            summary = self.summary
        except DataError:
            return "no summary"
        updates = summary["updates"]
        return f"{summary['status']} after {updates:,} update{'s' * (updates != 1)}"

    @property
    def _scores(self) -> dict[str, Mapping[str, float | None]]:
        """Test scores by name: those of the network, and those of the baselines."""
        try:
            summary = self.summary
        except DataError:
            return {}
        return {summary["model"]: summary["test"], **summary["baselines"]} if summary["test"] else {}


class Pictures(list[Path]):
    """Paths of pictures, which a notebook shows as pictures."""

    def _repr_html_(self) -> str:
        return "".join(_image(path) for path in self)


def _table(scores: Mapping[str, Mapping[str, float | None]]) -> str:
    """Returns scores as an HTML table: a row for the network, and one for each baseline."""
    if not scores:
        return ""
    metrics = list(next(iter(scores.values())))
    head = "".join(f"<th>{html.escape(metric.replace('_', ' '))}</th>" for metric in ("test", *metrics))
    rows = []
    for number, (name, values) in enumerate(scores.items()):
        cells = "".join(f"<td>{facts.number(values.get(metric), metric)}</td>" for metric in metrics)
        style = ' style="font-weight: bold"' if number == 0 else ""
        rows.append(f"<tr{style}><th>{html.escape(name)}</th>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _image(path: Path) -> str:
    """Returns a PNG file as an HTML image that needs no other file; a line if it cannot be read."""
    try:
        inside = bounded.resolve_inside(path.parent, path.name)
        with bounded.opened(inside, MOST_PICTURE) as file:
            content = base64.b64encode(file.read(MOST_PICTURE)).decode()
    except DataError as error:
        return f"<p>{html.escape(str(error))}</p>"
    name = html.escape(path.stem, quote=True)
    return f'<img alt="{name}" style="max-width: 100%" src="data:image/png;base64,{content}">'
