"""Checks the space of a search before its first trial, and composes the config of each trial."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seqrnn import components, composition, plugins, registry, settings
from seqrnn.checkpoints.init_from import check_source
from seqrnn.errors import ConfigError, DataError
from seqrnn.recording.summary import headline_of
from seqrnn.settings import Values
from seqrnn.sweeping.combining import key_of
from seqrnn.sweeping.comparison import higher_is_better
from seqrnn.sweeping.composing import Composer, name_of
from seqrnn.sweeping.directory import Job
from seqrnn.sweeping.options import SweepOptions
from seqrnn.sweeping.search.space import Parameter, read_space
from seqrnn.sweeping.search.study import SearchPlan

MOST_CHOICES = 200  # combinations of choices of groups: each is composed before the search begins


def plan_search(
    arguments: Sequence[str], options: SweepOptions, composer: Composer, config_dir: list[str]
) -> SearchPlan:
    """Returns the plan of the search that a command line describes. Nothing is written.

    Args:
        arguments: its overrides, without those of hydra and of the sweep itself.
        config_dir: the flag that adds the user's directory of config files, if there is one.

    Raises:
        ConfigError: everything that is wrong with the keys, and with the ends of what is searched.
    """
    problems = []
    if find_spec("optuna") is None:
        problems.append("sweep.search=optuna: Optuna is not installed; pip install 'seqrnn[optuna]'")
    if options.trials is None:
        problems.append("sweep.search=optuna: needs the number of trials: sweep.trials=50")
    for key in ("zip", "file", "exclude"):
        if getattr(options, key):
            problems.append(f"sweep.{key}: is for sweeps over all combinations; leave it out of a search")
    if options.on_failure == "retry":
        problems.append("sweep.on_failure=retry: a failed trial is a result of a search; choose continue or stop")
    if problems:
        raise ConfigError(*problems)
    fixed, space = read_space(composition.extending_open_mappings(arguments), options.space, composer.loader)
    examples = _check(fixed, space, composer, config_dir)
    metric, direction = _objective(examples)
    return SearchPlan(
        overrides=fixed,
        space=space,
        metric=metric,
        direction=direction,
        sampler=options.sampler,
        pruner=options.pruner,
        seed=options.seed,
    )


def _check(
    fixed: Sequence[str], space: Sequence[Parameter], composer: Composer, config_dir: list[str]
) -> list[Values]:
    """Checks every choice and both ends of every key that is searched, for every combination of choices of groups.
    Their configs are composed here, so a file that is edited later changes no trial.

    A value is wrong if it is so beside the first values of the other keys and beside their last ones. What is wrong
    only in some combinations fails the trials that have them.

    Returns:
        A config for each combination of choices of groups.

    Raises:
        ConfigError: everything that is wrong.
    """
    groups = [one for one in space if composer.is_choice(f"{one.key}=")]
    others = [one for one in space if one not in groups]
    if any(not one.choices for one in groups):
        raise ConfigError(*(f"{one.key}: is a group; search among its choices" for one in groups if not one.choices))
    count = math.prod(len(one.choices) for one in groups)
    if count > MOST_CHOICES:
        keys = ", ".join(one.key for one in groups)
        raise ConfigError(f"{keys}: {count:,} combinations of choices; {MOST_CHOICES} are the most that are searched")
    problems: dict[str, None] = {}
    examples = []
    for choices in itertools.product(*(one.choices for one in groups)):
        chosen = [f"{one.key}={choice}" for one, choice in zip(groups, choices, strict=True)]
        corners = [{one.key: one.ends[place] for one in others} for place in (0, -1)]
        for value in [{one.key: value} for one in others for value in one.ends] or [{}]:
            sets = [[f"{key}={text}" for key, text in {**corner, **value}.items()] for corner in corners]
            found = [_attempt([*fixed, *chosen, *texts], composer, config_dir) for texts in sets]
            sound = [values for values in found if isinstance(values, dict)]
            examples += sound[:1]
            if not sound:
                problems |= dict.fromkeys(_with_hint(problem, others) for problem in found[0])
    if problems:
        raise ConfigError(*problems)
    return examples


def _with_hint(problem: str, space: Sequence[Parameter]) -> str:
    """Returns a problem, with what to write where numbers of an interval should be whole."""
    for one in space:
        if "integer" in problem and problem.startswith(f"{one.key}=") and not one.choices and not one.whole:
            return f"{problem}; write {one.key}=int(interval({one.low:g},{one.high:g}))"
    return problem


def _attempt(overrides: Sequence[str], composer: Composer, config_dir: list[str]) -> Values | list[str]:
    """Returns a config, or what is wrong with it."""
    try:
        values = composer.values(overrides)
        plugins.load_components(settings.plugins_of(values))
        components.check_config(values)
        check_source(values["init_from"])
    except ConfigError as error:
        return list(error.problems)
    except Exception as error:  # hydra's, of many kinds
        return composition.explain(error, [*config_dir, *overrides]).problems
    return values


def _objective(examples: Sequence[Values]) -> tuple[str, Any]:
    """Returns the headline metric of the task, and the direction of its better values.

    Raises:
        ConfigError: trials would not have the same task.
    """
    tasks = {str(values["task"]["name"]): values for values in examples}
    if len(tasks) > 1:
        raise ConfigError(f"task: a search compares the runs of one task, not of {', '.join(tasks)}")
    ((name, values),) = tasks.items()
    metric = headline_of(registry.build("task", values["task"], values["seed"]))
    return metric, "maximize" if higher_is_better(name, metric) else "minimize"


def job_of(plan: SearchPlan, number: int, chosen: dict[str, str], composer: Composer) -> Job:
    """Returns the job of a trial.

    Args:
        chosen: the values of the keys that are searched, as typed.

    Raises:
        ConfigError: an interpolation of its config leads nowhere.
    """
    overrides = [*plan.overrides, *(f"{key}={value}" for key, value in chosen.items())]
    identity = composer.identity(overrides)
    return Job(
        name=name_of(identity),
        number=number,
        identity=identity,
        overrides=overrides,
        values=composer.values(overrides),
        trial=number,
    )


def check_resumed(plan: SearchPlan, directory: Path) -> None:
    """Checks the plan of a search that is resumed by its directory, which may come from anyone.

    Raises:
        DataError: an override would read what is outside of the config.
    """
    texts = [
        *plan.overrides,
        *(choice for one in plan.space for choice in one.choices),
        *(one.key for one in plan.space),
    ]
    found = [text for text in texts if "${" in text or key_of(text).startswith("hydra")]
    if found:
        raise DataError(f"{directory}: {found[0]}: not taken from a directory; repeat the line of the search")
