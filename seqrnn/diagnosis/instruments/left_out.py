"""Left-out inputs: is there data that the network does not read, and that explains its errors?

A task can say with which settings it reads all inputs that there are (``all_inputs``); task=csv does so where
task.inputs leaves columns out. On validation sequences, a linear readout of the network's errors from the state and
the inputs is compared with one that reads all inputs of the latest timesteps as well:

    ratio    squared error with all inputs ÷ squared error without, on sequences that neither was fitted to

Caveat: what a left-out input says only together with others, or after a long time, is not seen; the trial of the
remedy "all inputs" shows that as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from seqrnn.diagnosis.instrument import Evidence, Finding, Picture
from seqrnn.diagnosis.intervals import Interval, number
from seqrnn.diagnosis.record import Items, Record
from seqrnn.registry import register

if TYPE_CHECKING:
    from seqrnn.diagnosis.trained_run import TrainedRun

EXPLAINS = 0.9  # ratio
LAGS = 3  # latest timesteps of all inputs
MOST = 2**15  # targets
MOST_FEATURES = 512


class LeftOut(Record):
    """
    Args:
        settings: of the task, with which it reads all inputs.
        inputs, all_inputs: how many are read, and how many there are.
        ratio: see above.
        independent: what the interval is over.
    """

    settings: Items[str]
    inputs: int
    all_inputs: int
    ratio: Interval
    independent: str


@register("instrument", "left_out")
class LeftOutInstrument:
    description = "looking for inputs that are left out"
    order = 12
    result_type = LeftOut

    def measure(self, run: TrainedRun) -> LeftOut:
        """
        Raises:
            DataError: the task reads all inputs that there are, or its data is another with them.
        """
        import numpy as np
        import torch

        from seqrnn import registry
        from seqrnn.diagnosis.seen_data import error_ratio, seen, spread_over
        from seqrnn.errors import DataError

        run.budget.check()
        task = run.components.task
        settings: dict[str, Any] = getattr(task, "all_inputs", {})
        if not settings:
            raise DataError("nothing is known of inputs that are left out")
        other = registry.build("task", {**run.values["task"], **settings}, run.values["seed"])
        if other.input_size <= task.input_size:
            raise DataError("no input is left out")
        if other.input_size * LAGS > MOST_FEATURES:
            raise DataError(f"there are {other.input_size:,} inputs, which are too many to look at")
        found = seen(run)
        timesteps, streams = found.valid.shape
        batch = other.validation()[0]
        chunk = batch.read(0, batch.timesteps)
        counts = chunk.valid.any(dim=0).nonzero().flatten()[:streams]
        more = chunk.inputs[:timesteps, counts].double().numpy()
        same = more.shape[:2] == found.valid.shape and bool(
            (chunk.valid[:timesteps, counts].numpy() == found.valid).all()
        )
        if not same:
            raise DataError("with all inputs, other targets count, so that errors cannot be compared")
        outputs = found.outputs
        made = outputs if task.kind == "regression" else torch.softmax(outputs, dim=-1)
        errors = found.wanted - made.cpu().numpy()
        lagged = np.concatenate(
            [np.concatenate([np.zeros_like(more[:lag]), more[: timesteps - lag]]) for lag in range(LAGS)], axis=-1
        )
        own = np.concatenate([found.states, found.chunk.inputs.cpu().numpy()], axis=-1)
        where = np.flatnonzero(found.valid.ravel())
        where = where[spread_over(len(where), MOST)]
        run.budget.check()
        chosen = [values.reshape(-1, values.shape[-1])[where] for values in (own, lagged, errors)]
        ratio = error_ratio(chosen[0], chosen[1], chosen[2], found.groups.ravel()[where])
        return LeftOut(
            settings=[f"task.{key}={value}" for key, value in settings.items()],
            inputs=task.input_size,
            all_inputs=other.input_size,
            ratio=ratio,
            independent=found.independent,
        )

    def symptoms(self, result: LeftOut) -> Iterator[Finding]:
        if result.ratio.high < EXPLAINS:
            yield Finding(
                name="missing_input",
                title="An informative input is left out",
                description=f"It reads {result.inputs} of {result.all_inputs} inputs. What it gets wrong can be told "
                f"from the others: read with them, {number(result.ratio.value)} of its squared error is left "
                f"({' '.join(result.settings)}).",
                evidence=[Evidence(quantity="squared error read with all inputs, by that without",
                                   interval=result.ratio)],
                remedies=["all inputs"],
            )  # fmt: skip

    def pictures(self) -> list[Picture]:
        return []
