"""The keys of a config outside its groups, with their types and bounds; and configs as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field

from seqrnn.bounds import Count, Natural
from seqrnn.composition import OPEN_MAPPINGS, compose
from seqrnn.device import Device, Precision
from seqrnn.errors import ConfigError
from seqrnn.keys import flattened

Values = dict[str, Any]
Kernel = Literal["auto", "torch", "compiled"]
OF_SWEEPS = ("sweep.", "sweep=", "hydra/launcher=", "hydra/sweeper=")  # how overrides begin that single runs refuse
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
Duration = Annotated[str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,3})?[smh]$")]


class CheckpointSettings(BaseModel, frozen=True, extra="forbid", strict=True):
    """``checkpoint.*``.

    Args:
        every: updates of the schedule between two checkpoints, or the time between them, such as ``60s``, ``5m`` or
            ``1h``; a time becomes longer where checkpoints would take more than 1 % of it. None: one is written only
            when the run ends or is stopped.
        keep: how many of the newest are kept; 0: none is written.
        best: the metric by which the best evaluation is chosen, whose weights go to best.safetensors; None: no
            weights are kept.
    """

    every: Count | Duration | None
    keep: Annotated[int, Field(ge=0, le=1000)]
    best: str | None

    @property
    def seconds(self) -> float | None:
        """Seconds between two checkpoints, or None where updates are counted."""
        return float(self.every[:-1]) * UNITS[self.every[-1]] if isinstance(self.every, str) else None

    @property
    def updates(self) -> int | None:
        """Updates between two checkpoints, or None where the clock decides."""
        return self.every if isinstance(self.every, int) else None


class Plots(BaseModel, frozen=True, extra="forbid", strict=True):
    """``plots.*``: whether to draw, whether to animate the fit as it improves, and in how many frames."""

    draw: bool
    animation: bool
    frames: Count


class Rollback(BaseModel, frozen=True, extra="forbid", strict=True):
    """``rollback.*``: the factor of the learning rate at each rollback, and the most rollbacks of a run."""

    factor: Annotated[float, Field(gt=0, lt=1)]
    times: Annotated[int, Field(ge=1, le=100)]


class Suggested(BaseModel, frozen=True, extra="forbid", strict=True):
    """``suggested.*``: lengths that suit the task, to which schedules refer. ``auto``: the task finds them in its
    data."""

    epochs: Count | Literal["auto"]
    streams: Count | Literal["auto"]
    window: Count | Literal["auto"]


class Settings(BaseModel, frozen=True, extra="forbid", strict=True):
    """The keys outside the groups: how to run, and which files to write."""

    seed: Natural
    device: Device
    precision: Precision
    threads: Annotated[int, Field(ge=1, le=256)] | Literal["auto"]
    kernel: Kernel
    capture: bool = True  # what a config of a version without this key means
    deterministic: bool
    smoke: bool
    log_every: Count | None
    logger: str | list[str] | None
    diagnose: bool
    resume: Annotated[str, Field(min_length=1)] | None
    init_from: str | None
    on_divergence: Literal["stop", "rollback"]
    rollback: Rollback
    checkpoint: CheckpointSettings
    plots: Plots
    plugins: list[str]
    suggested: Suggested


def plain(config: DictConfig) -> Values:
    """Returns a composed config as plain values, interpolations resolved, without hydra's own part and the sweep's.

    Raises:
        ConfigError: an interpolation leads nowhere, or a value is missing.
    """
    own = [str(key) for key in config if key not in ("hydra", "sweep")]
    try:
        values: Any = OmegaConf.to_container(OmegaConf.masked_copy(config, own), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    for key in OPEN_MAPPINGS:
        group, _, name = key.partition(".")
        if isinstance(values.get(group), dict) and isinstance(values[group].get(name), dict):
            # model.init_std.head.weight=1 is composed as {head: {weight: 1}}, and names the parameter head.weight.
            values[group][name] = flattened(values[group][name])
    return {str(key): value for key, value in values.items()}


def logger_names(setting: Any) -> list[str]:
    """Returns the names of the loggers that the key ``logger`` chooses: one, several or none."""
    names = [setting] if isinstance(setting, str) else setting or []
    return list(dict.fromkeys(names))


def refuse_sweep_options(overrides: Sequence[str]) -> None:
    """Refuses ``sweep.*``, ``sweep=…``, launchers and sweepers among the overrides of a run that is alone.

    Raises:
        ConfigError: there is one.
    """
    found = [text for text in overrides if text.startswith(OF_SWEEPS)]
    if found:
        raise ConfigError(
            *(f"{text}: is for sweeps, which are asked for with -m (hydra/sweeper=seqrnn)" for text in found)
        )


def composed_values(overrides: Sequence[str]) -> Values:
    """Returns the config that ``overrides`` describe, as plain values; it is not checked yet.

    Raises:
        ConfigError: everything that is wrong with the overrides.
    """
    return plain(compose(overrides))


def plugins_of(values: Values) -> list[str]:
    """Returns the modules that ``plugins`` names.

    Raises:
        ConfigError: it is not a list of names.
    """
    plugins = values.get("plugins")
    if not isinstance(plugins, list) or not all(isinstance(plugin, str) for plugin in plugins):
        raise ConfigError(f"plugins={plugins}: should be a list of module names, such as plugins=[my_package.cells]")
    return plugins
