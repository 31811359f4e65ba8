"""Composes the configs of jobs. hydra takes 0.1 s for one, so the choices of groups are composed once for all jobs
that share them, and the other overrides are applied to a copy, by hydra's own function."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from seqrnn import settings
from seqrnn.keys import flattened
from seqrnn.sweeping.combining import key_of

MOST_READABLE = 80  # characters of a name before its hash
HASH = 10  # hexadecimal digits: among 10,000 jobs, two have the same with a chance of 1 in 20,000
UNREADABLE = re.compile(r"[^A-Za-z0-9.+-]+")
# What does not make a job another job: how it is launched, and whether it is resumed.
NO_PART = ("hydra", "sweep", "resume")


@dataclass(frozen=True)
class Base:
    """A config in which only groups have been chosen.

    Args:
        config: without hydra's own part.
        hydra: hydra's own part.
        flat: its values by key, interpolations kept.
    """

    config: DictConfig
    hydra: DictConfig
    flat: dict[str, Any]


class Composer:
    """Composes configs as the command line of a single run would.

    Args:
        loader: hydra's loader of configs.
        config: what hydra has composed for the sweep; its own overrides of hydra apply to each job.
    """

    def __init__(self, loader: Any, config: DictConfig) -> None:
        self.loader, self.name = loader, config.hydra.job.config_name
        self.hydra_overrides: list[str] = list(OmegaConf.to_container(config.hydra.overrides.hydra))  # type: ignore[arg-type]
        self.groups = set(loader.list_groups(""))
        self._bases: dict[tuple[str, ...], Base] = {}
        self._parser = OverridesParser.create()

    def is_choice(self, override: str) -> bool:
        """Returns whether an override chooses a file of a group."""
        key = key_of(override).partition("@")[0]
        return key in self.groups or "/" in key

    def base(self, choices: Iterable[str]) -> Base:
        """Returns the config in which groups are chosen by ``choices``."""
        key = tuple(sorted(choices))
        if key not in self._bases:
            composed = self.loader.load_configuration(self.name, [*self.hydra_overrides, *key], RunMode.RUN)
            own = OmegaConf.masked_copy(composed, [name for name in composed if name != "hydra"])
            OmegaConf.set_struct(own, True)
            plain: Any = OmegaConf.to_container(own, resolve=False)
            self._bases[key] = Base(own, composed, flattened(plain))
        return self._bases[key]

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Returns the config of a job, interpolations kept. hydra's errors are raised as they are."""
        base = self.base(filter(self.is_choice, overrides))
        config = copy.deepcopy(base.config)
        parsed = self._parser.parse_overrides([text for text in overrides if not self.is_choice(text)])
        ConfigLoaderImpl._apply_overrides_to_config(parsed, config)
        return config

    def values(self, overrides: Sequence[str]) -> settings.Values:
        """Returns the config of a job as plain values.

        Raises:
            ConfigError: a value is missing, or an interpolation leads nowhere.
        """
        config = self.compose(overrides)
        with _hydra_config(self.base(filter(self.is_choice, overrides)).hydra):
            return settings.plain(config)

    def identity(self, overrides: Sequence[str]) -> dict[str, str]:
        """Returns what makes a job the job that it is: those of its overrides that differ from the defaults, as
        values by key. Two jobs with the same identity have the same config."""
        choices = [text for text in overrides if self.is_choice(text)]
        for text in [*choices]:  # a choice that would have been made without it is none
            rest = [other for other in choices if other != text]
            if text[:1] not in "+~" and self.base(rest).flat == self.base(choices).flat:
                choices = rest
        base = self.base(filter(self.is_choice, overrides)).flat
        found = {}
        for text in overrides:
            key = key_of(text)
            if key.partition(".")[0].partition("/")[0] in NO_PART:
                continue
            if self.is_choice(text):
                if text in choices:
                    found[key] = text.partition("=")[2]
                continue
            override = self._parser.parse_override(text)
            if override.is_delete():
                found[f"~{key}"] = ""
            elif not _same(override.value(), base.get(key, ...)):
                found[key] = json.dumps(_plain(override.value()), sort_keys=True)
        return found


def name_of(identity: dict[str, str], swept: Sequence[str] = ()) -> str:
    """Returns a name for a directory: readable, and another one for every identity.

    Args:
        swept: keys that take several values, in the name of a whole sweep.
    """
    parts = [f"{_last(key)}-{value.strip(chr(34))}" for key, value in identity.items()] + [*map(_last, swept)]
    readable = "_".join(UNREADABLE.sub("-", part).strip("-.") for part in parts)[:MOST_READABLE].rstrip("-_.")
    exact = json.dumps([sorted(identity.items()), sorted(swept)])
    return f"{readable or 'defaults'}_{hashlib.sha256(exact.encode()).hexdigest()[:HASH]}"


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _same(value: Any, default: Any) -> bool:
    return value == default and isinstance(value, bool) == isinstance(default, bool)


def _plain(value: Any) -> Any:
    """Returns a value of hydra's parser without its quotes."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, bool | int | float | None) else str(value)


@contextmanager
def _hydra_config(composed: DictConfig) -> Iterator[None]:
    """Lets ``${hydra:…}`` in a config be looked up in ``composed`` within its block."""
    before = HydraConfig.instance().cfg
    with open_dict(composed.hydra):
        HydraConfig.instance().set_config(composed)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before
