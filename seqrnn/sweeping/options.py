"""The keys ``sweep.*``, with their types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, Field

from seqrnn import registry
from seqrnn.errors import ConfigError
from seqrnn.sweeping.search_record import MOST_TRIALS

Sampler = Literal["tpe", "random"]
FEW_JOBS = 100  # of which sweep.plots=auto draws all pictures
Pruner = Literal["median", "hyperband"]


class SweepOptions(BaseModel, frozen=True, extra="forbid", strict=True):
    """``sweep.*``.

    Args:
        jobs: how many run at the same time in processes of this machine; ``auto``: as many as cores and memory allow.
        on_failure: after a job has failed, ``continue`` with the others, ``stop``: no other job begins, ``retry``:
            each failed job is tried once more when the others have ended.
        zip: keys whose values go in step instead of being combined with each other.
        file: a file with a set of overrides in each line (.txt), item (.yaml) or row (.csv).
        exclude: sets of overrides, such as ``model=gru schedule.window=2,10``; a job that matches all of one set is
            left out.
        resume: the directory of a sweep that is resumed with the configs that it was planned with.
        plots: of which jobs pictures are drawn: ``all``; ``best``: of those that fail, and of the best conditions
            when all jobs have ended; ``auto``: ``all`` for up to a hundred jobs, else ``best``.
        report: whether report.html is written at the end.
        dry_run: whether jobs are only listed, with an estimate of the time.
        search: what proposes the values of trials; None: every combination of values is a job.
        trials: of a search, those of earlier calls included.
        space: of a search: keys with several values, such as ``optimizer.lr=tag(log, interval(1e-4, 1e-1))``, beside
            those of the command line.
        sampler: of a search: ``tpe`` proposes values like those of the best trials so far, ``random`` any.
        pruner: of a search: how hopeless trials are found, which end early; None: every trial runs to its end.
        seed: of the sampler.
    """

    jobs: Annotated[int, Field(ge=1, le=1000)] | Literal["auto"]
    on_failure: Literal["continue", "stop", "retry"]
    zip: list[str]
    file: str | None
    exclude: list[str]
    resume: str | None
    plots: Literal["auto", "all", "best"]
    report: bool
    dry_run: bool
    search: Literal["optuna"] | None
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | None
    space: list[str]
    sampler: Sampler
    pruner: Pruner | None
    seed: Annotated[int, Field(ge=0, le=2**32)]

    def draws_all(self, jobs: int) -> bool:
        """Returns whether each of so many jobs draws its pictures."""
        return self.plots == "all" or (self.plots == "auto" and jobs <= FEW_JOBS)


def read_options(config: DictConfig) -> SweepOptions:
    """Returns the checked ``sweep.*`` of a composed config.

    Raises:
        ConfigError: everything that is wrong with them.
    """
    values: Any = OmegaConf.to_container(config.sweep, resolve=True)
    if not isinstance(values, dict):
        raise ConfigError(f"sweep={values}: should be a mapping; leave it out, and write sweep.KEY=VALUE")
    problems = registry.problems_with(SweepOptions, values, "sweep")
    if problems:
        raise ConfigError(*problems)
    options = SweepOptions.model_validate(values)
    if options.file is not None and not Path(options.file).expanduser().is_file():
        raise ConfigError(f"sweep.file={options.file}: there is no such file")
    if options.search is None and options.resume is None and (options.trials is not None or options.space):
        given = f"sweep.trials={options.trials}" if options.trials is not None else "sweep.space"
        raise ConfigError(f"{given}: is for searches; add sweep.search=optuna, or leave it out")
    return options
