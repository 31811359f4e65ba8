"""Optuna's study of a search: it proposes values for trials, and keeps how they ended.

.sweep/search.json   the space and everything else that decides what is proposed; it never changes
.sweep/study.db      the study, in Optuna's SQLite format, which its dashboard shows
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from seqrnn.cli import workers
from seqrnn.errors import ConfigError, DataError
from seqrnn.rundir.atomic import replacing
from seqrnn.rundir.bounded import Items, Name, read_model, resolve_inside
from seqrnn.rundir.strict_json import to_json
from seqrnn.sweeping.directory import OWN, Text
from seqrnn.sweeping.options import Pruner, Sampler
from seqrnn.sweeping.search.space import Parameter

PLAN, DATABASE = "search.json", "study.db"
NAME = "seqrnn"  # of the study in its file
JOB = "job"  # the attribute of a trial that holds the name of its job
LOCK_SECONDS = 60.0  # that a process waits for another one which writes the study
STARTUP_TRIALS = 5  # that the median pruner lets end before it prunes
FIRST_STEP, LAST_STEP = 4, 20  # twentieths of a run: the first in which the median pruner prunes, and all
TO_REMOVE = "move the directory away, or choose another with hydra.sweep.dir=DIR"


class SearchPlan(BaseModel, frozen=True):
    """search.json.

    Args:
        overrides: that all trials share.
        space: the keys that are searched.
        metric: the headline metric of the task, on the validation data.
        direction: of the better values of the metric.
        sampler: of Optuna, which proposes values.
        pruner: of Optuna, which ends hopeless runs early; None: none is.
        seed: of the sampler.
    """

    overrides: Items[Text]
    space: Items[Parameter]
    metric: Name
    direction: Literal["minimize", "maximize"]
    sampler: Sampler
    pruner: Pruner | None
    seed: int


def read_plan(sweep: Path) -> SearchPlan | None:
    """Reads the search.json of a sweep; None if it is no search.

    Raises:
        DataError: it is damaged.
    """
    path = resolve_inside(sweep, f"{OWN}/{PLAN}")
    return read_model(path, SearchPlan) if path.is_file() else None


class Study:
    """The study in the directory of a sweep.

    Args:
        storage: Optuna's.
    """

    def __init__(self, sweep: Path, plan: SearchPlan, storage: Any) -> None:
        import optuna

        self.path, self.plan, self._storage = sweep / OWN / DATABASE, plan, storage
        self._optuna: Any = optuna
        self._study = optuna.create_study(
            storage=storage,
            study_name=NAME,
            direction=plan.direction,
            pruner=_pruner(plan.pruner),
            load_if_exists=True,
        )
        self._study_id = storage.get_study_id_from_name(NAME)

    @classmethod
    def begin(cls, sweep: Path, plan: SearchPlan, *, is_local: bool) -> Study:
        """Opens the study of a search, which is created if there is none. The sweep is locked.

        Args:
            is_local: whether all jobs run on this machine. SQLite's write-ahead log is then used, which is faster
                and which no network file system can hold.

        Raises:
            ConfigError: there is a study of another search.
            DataError: it is damaged.
        """
        before = read_plan(sweep)
        if before is None:
            with replacing(sweep / OWN / PLAN) as path:
                path.write_text(to_json(plan.model_dump(mode="json")) + "\n", encoding="utf-8")
        elif before != plan:
            old, new = before.model_dump(), plan.model_dump()
            changed = ", ".join(key for key in new if new[key] != old[key])
            raise ConfigError(
                f"{sweep}: holds another search (its {changed} differ{'s' * (',' not in changed)}); repeat its line "
                f"with another sweep.trials alone, or {TO_REMOVE}"
            )
        return cls._connect(sweep, plan, "WAL" if is_local else "DELETE")

    @classmethod
    def open(cls, sweep: Path) -> Study:
        """Opens the study of a sweep in the process of one of its jobs.

        Raises:
            DataError: there is none, or it is damaged.
        """
        plan = read_plan(sweep)
        if plan is None or not (sweep / OWN / DATABASE).is_file():
            raise DataError(f"{sweep}: has no study, although its jobs are trials; {TO_REMOVE}")
        return cls._connect(sweep, plan, None)

    @classmethod
    def _connect(cls, sweep: Path, plan: SearchPlan, journal: str | None) -> Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path = (sweep / OWN / DATABASE).absolute()
        if path.is_symlink():
            raise DataError(f"{path}: is a link, and nothing is written through links")

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(path, timeout=LOCK_SECONDS, check_same_thread=False)
            connection.execute("PRAGMA trusted_schema = OFF")  # the file may come from anyone
            if journal:
                connection.execute(f"PRAGMA journal_mode = {journal}")
            connection.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes, the directories still have
            return connection

        with _explained(path):
            storage = optuna.storages.RDBStorage(f"sqlite:///{DATABASE}", engine_kwargs={"creator": connect})
            return cls(sweep, plan, storage)

    def close(self) -> None:
        """Closes the connections to the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def trials(self) -> list[Any]:
        """Returns all trials of Optuna's, in the order of their numbers."""
        with _explained(self.path):
            return list(self._study.get_trials(deepcopy=False))

    def ask(self) -> int:
        """Makes a trial, and returns its number.

        The sampler is seeded with the number of the trial, so that a search that was interrupted proposes what it
        would have proposed otherwise.
        """
        with _explained(self.path), warnings.catch_warnings():
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            self._study.sampler = self._sampler(len(self.trials()))
            return int(self._study.ask().number)

    def values(self, number: int) -> dict[str, str]:
        """Returns the values of a trial by key, as typed. Those that were not proposed before are now."""
        found = {}
        with _explained(self.path):
            self._study.sampler = self._sampler(number)
            trial = self._trial(number)
            for one in self.plan.space:
                if one.choices:
                    value = trial.suggest_categorical(one.key, one.choices)
                elif one.whole:
                    value = trial.suggest_int(one.key, one.low, one.high, step=int(one.step or 1), log=one.log)
                else:
                    value = trial.suggest_float(one.key, one.low, one.high, step=one.step, log=one.log)
                found[one.key] = one.shown(value)
        return found

    def report(self, number: int, value: float, step: int) -> bool:
        """Stores an evaluation of a trial that runs; returns whether it is to end."""
        with _explained(self.path):
            trial = self._trial(number)
            trial.report(value, step)
            return bool(trial.should_prune())

    def last_step(self, number: int) -> int:
        """Returns the last step that a trial has reported; 0 if there is none."""
        with _explained(self.path):
            return int(self._storage.get_trial(self._trial_id(number)).last_step or 0)

    def copy_evaluations(self, source: int, target: int) -> None:
        """Stores the evaluations of one trial as those of another, which shares its run."""
        with _explained(self.path):
            trial = self._trial(target)
            for step, value in self._storage.get_trial(self._trial_id(source)).intermediate_values.items():
                trial.report(value, step)

    def set_job(self, number: int, job: str) -> None:
        """Stores the name of the job of a trial."""
        with _explained(self.path):
            self._trial(number).set_user_attr(JOB, job)

    def tell(self, number: int, state: Literal["complete", "pruned", "failed"], value: float | None = None) -> None:
        """Stores how a trial ended."""
        states = self._optuna.trial.TrialState
        known = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}
        with _explained(self.path):
            self._study.tell(number, value, state=known[state], skip_if_finished=True)

    def importance(self) -> dict[str, float]:
        """Returns how much each key decides whether a trial is among the best tenth, as shares (PED-ANOVA, Watanabe
        et al. 2023); empty where there are too few trials to tell."""
        with suppress(ValueError, RuntimeError), _explained(self.path), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = self._optuna.importance.PedAnovaImportanceEvaluator()
            shares = self._optuna.importance.get_param_importances(self._study, evaluator=evaluator)
            return {key: float(share) for key, share in shares.items()}
        return {}

    def _trial(self, number: int) -> Any:
        return self._optuna.trial.Trial(self._study, self._trial_id(number))

    def _trial_id(self, number: int) -> Any:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _sampler(self, number: int) -> Any:
        seed = int(np.random.SeedSequence([self.plan.seed, number]).generate_state(1)[0])
        samplers: dict[str, Callable[..., Any]] = {
            "tpe": self._optuna.samplers.TPESampler,
            "random": self._optuna.samplers.RandomSampler,
        }
        return samplers[self.plan.sampler](seed=seed)


def _pruner(name: Pruner | None) -> Any:
    from optuna import pruners

    match name:
        case "median":
            return pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=FIRST_STEP)
        case "hyperband":
            return pruners.HyperbandPruner(min_resource=1, max_resource=LAST_STEP)
        case None:
            return pruners.NopPruner()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns errors of the database within its block into those that say what to do. A signal waits until the block
    has ended, so that no transaction is left half-way.

    Raises:
        DataError: the file is damaged, or cannot be read or written.
        Interrupted: the signal that has waited.
    """
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with workers.finishing():
            yield
    except (SQLAlchemyError, sqlite3.Error, OptunaError, LookupError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error.__cause__ or error).split()) or repr(error)
        raise DataError(f"{path}: cannot be used: {reason}; if it is damaged, {TO_REMOVE}") from error
