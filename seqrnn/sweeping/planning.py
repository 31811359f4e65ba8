"""Plans a sweep: composes and checks the config of every job before the first one starts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from seqrnn import components, composition, plugins, settings
from seqrnn.checkpoints.init_from import check_source
from seqrnn.errors import ConfigError, did_you_mean
from seqrnn.keys import flattened
from seqrnn.sweeping.combining import combine, key_of
from seqrnn.sweeping.composing import NO_PART, Composer, name_of
from seqrnn.sweeping.directory import Job
from seqrnn.sweeping.options import SweepOptions

MOST_NAMED = 3  # jobs that an error names


def for_jobs(arguments: Sequence[str]) -> list[str]:
    """Returns the overrides of a command line that are for its jobs: not those of hydra and of the sweep, and not
    ``resume=auto``, which every job of a sweep has.

    Raises:
        ConfigError: ``resume`` names something else.
    """
    settings_of_resume = [text for text in arguments if key_of(text) == "resume"]
    others = [text for text in settings_of_resume if text.partition("=")[2] not in ("auto", "null")]
    if others:
        raise ConfigError(f"{others[0]}: a sweep is resumed by the same line again, or by sweep.resume=DIR")
    return [text for text in arguments if key_of(text).partition(".")[0].partition("/")[0] not in NO_PART]


def plan(arguments: Sequence[str], options: SweepOptions, config: DictConfig, loader: Any) -> list[Job]:
    """Returns the jobs that a command line describes, numbered from 0.

    Args:
        arguments: its overrides.
        config: what hydra has composed for the sweep.
        loader: hydra's loader of configs.

    Raises:
        ConfigError: everything that is wrong with the configs of all jobs, each with its jobs.
        Exception: hydra cannot compose the config of a job; its own error, which ``composition.explain`` explains.
    """
    composer = Composer(loader, config)
    sets = [composition.extending_open_mappings(texts) for texts in combine(for_jobs(arguments), options, loader)]
    sets = _without_excluded(sets, options.exclude, composer)
    jobs: dict[str, Job] = {}
    problems: dict[str, list[str]] = {}  # the jobs that have each
    for overrides, label in zip(sets, labels(sets), strict=True):
        try:
            values = composer.values(overrides)
            plugins.load_components(settings.plugins_of(values))
            components.check_config(values)
            check_source(values["init_from"])
            identity = composer.identity(overrides)
            name = name_of(identity)
            job = Job(name=name, number=len(jobs), identity=identity, overrides=overrides, values=values)
            jobs.setdefault(name, job)
        except ConfigError as error:
            found = error.problems
        except Exception as error:
            if not options.file:
                raise  # it is explained with the whole line
            found = tuple(composition.explain(error, [*config_dir(config), *overrides]).problems)
        else:
            continue
        for problem in found:
            problems.setdefault(problem, []).append(label)
    if problems:
        raise ConfigError(*(f"{problem}{_named(owners, len(sets))}" for problem, owners in problems.items()))
    return list(jobs.values())


def labels(sets: Sequence[Sequence[str]]) -> list[str]:
    """Returns what tells each job from the others: the overrides that not all of them have."""
    common = set.intersection(*map(set, sets)) if len(sets) > 1 else set()
    return [shlex.join(text for text in texts if text not in common) or "the defaults" for texts in sets]


def config_dir(config: DictConfig) -> list[str]:
    """Returns the flag that adds the user's directory of config files, if there is one."""
    sources = [source for source in config.hydra.runtime.config_sources if source.provider == "command-line"]
    return ["--config-dir", str(sources[0].path)] if sources else []


def _named(owners: Sequence[str], count: int) -> str:
    """Returns the jobs that have a problem, in brackets."""
    if len(owners) == count > 1:
        return f" (all {count} jobs)"
    if count == 1:
        return ""
    more = len(owners) - MOST_NAMED
    shown = "; ".join(owners[:MOST_NAMED])
    return f" (job{'s' * (len(owners) > 1)} {shown}{f'; and {more} more' if more > 0 else ''})"


def _without_excluded(sets: list[list[str]], excludes: Sequence[str], composer: Composer) -> list[list[str]]:
    """Returns the sets of overrides that match none of ``excludes``.

    Raises:
        ConfigError: something is wrong with a condition, it matches no job, or no job is left.
    """
    kept, matched = [], set()
    conditions = [_condition(text) for text in excludes]
    known: set[str] = set()
    for overrides in sets:
        view = _View(overrides, composer)
        hits = {number for number, condition in enumerate(conditions) if view.matches(condition)}
        known |= view.keys
        matched |= hits
        if not hits:
            kept.append(overrides)
    problems = []
    for number, text in enumerate(excludes):
        unknown = [key for key in conditions[number] if number not in matched and known and key not in known]
        if unknown:
            problems += [f"sweep.exclude: {key}: no such key{did_you_mean(key, known)}" for key in unknown]
        elif number not in matched:
            problems.append(f"sweep.exclude: '{text}' matches no job; each of its key=value must hold for one")
    if not kept and not problems:
        problems.append("sweep.exclude: leaves no job")
    if problems:
        raise ConfigError(*problems)
    return kept


def _condition(text: str) -> dict[str, list[Any]]:
    """Returns the allowed values of each key of a condition.

    Raises:
        ConfigError: it is none.
    """
    found: dict[str, list[Any]] = {}
    try:
        for part in shlex.split(text):
            override = OverridesParser.create().parse_override(part)
            if override.is_sweep_override():
                found[key_of(part)] = [
                    OverridesParser.create().parse_override(f"x={value}").value()
                    for value in override.sweep_string_iterator()
                ]
            else:
                found[key_of(part)] = [override.value()]
    except Exception:
        found = {}
    if not found:
        raise ConfigError(f"sweep.exclude: '{text}': should be overrides, such as 'model=gru schedule.window=2,10'")
    return found


class _View:
    """What the keys of a job are, for conditions. Its config is composed only where its overrides do not tell.

    Args:
        overrides: of the job.
    """

    def __init__(self, overrides: Sequence[str], composer: Composer) -> None:
        self._overrides, self._composer = overrides, composer
        parser = OverridesParser.create()
        self._values: dict[str, Any] = {key_of(text): parser.parse_override(text).value() for text in overrides}
        self._is_composed = False

    @property
    def keys(self) -> set[str]:
        """The keys that are known so far."""
        return {*self._values}

    def matches(self, condition: Mapping[str, Sequence[Any]]) -> bool:
        """Returns whether each key of a condition has one of its values."""
        return all(self._has(key, allowed) for key, allowed in condition.items())

    def _has(self, key: str, allowed: Sequence[Any]) -> bool:
        if key not in self._values and not self._is_composed:
            self._is_composed = True
            composer = self._composer
            plain: Any = OmegaConf.to_container(composer.compose(self._overrides), resolve=True)
            choices = composer.base(filter(composer.is_choice, self._overrides)).hydra.hydra.runtime.choices
            self._values = {**flattened(plain), **{str(k): v for k, v in choices.items()}, **self._values}
        return key in self._values and any(str(self._values[key]) == str(value) for value in allowed)
