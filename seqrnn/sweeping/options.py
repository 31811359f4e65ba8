"""The keys ``sweep.*``, with their types."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, ValidationError

from seqrnn.errors import ConfigError, did_you_mean


class SweepOptions(BaseModel, frozen=True, extra="forbid", strict=True):
    """``sweep.*``.

    Args:
        on_failure: after a job has failed, ``continue`` with the others, ``stop``: no other job begins, ``retry``:
            each failed job is tried once more when the others have ended.
        zip: keys whose values go in step instead of being combined with each other.
        file: a file with a set of overrides in each line (.txt), item (.yaml) or row (.csv).
        exclude: sets of overrides, such as ``model=lstm schedule.window=2,10``; a job that matches all of one set is
            left out.
        resume: the directory of a sweep that is resumed with the configs that it was planned with.
        report: whether report.html is written at the end.
        dry_run: whether jobs are only listed, with an estimate of the time.
    """

    on_failure: Literal["continue", "stop", "retry"]
    zip: list[str]
    file: str | None
    exclude: list[str]
    resume: str | None
    report: bool
    dry_run: bool


def read_options(config: DictConfig) -> SweepOptions:
    """Returns the checked ``sweep.*`` of a composed config.

    Raises:
        ConfigError: everything that is wrong with them.
    """
    values: Any = OmegaConf.to_container(config.sweep, resolve=True)
    if not isinstance(values, dict):
        raise ConfigError(f"sweep={values}: should be a mapping; leave it out, and write sweep.KEY=VALUE")
    known = SweepOptions.model_fields
    problems = [f"sweep.{key}: no such key{did_you_mean(str(key), known)}" for key in values if key not in known]
    try:
        options = SweepOptions.model_validate({key: value for key, value in values.items() if key in known})
    except ValidationError as error:
        for found in error.errors():
            key = ".".join(map(str, found["loc"]))
            problems.append(f"sweep.{key}={found['input']}: {found['msg'].replace('Input s', 's')}")
    if problems:
        raise ConfigError(*problems)
    if options.file is not None and not Path(options.file).expanduser().is_file():
        raise ConfigError(f"sweep.file={options.file}: there is no such file")
    return options
