"""Around hydra: where conf/ is, names for run directories, and errors that say what to do.

Imports neither torch nor anything else that is slow, so that --help and errors come at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqrnn.errors import UserError, did_you_mean

INTERRUPTED = 130
STARTED = time.time()

# Two processes may start in the same microsecond.
OmegaConf.register_new_resolver("pid", os.getpid, replace=True)


def config_directory() -> str:
    """conf/: inside an installed package, beside it in a checkout.

    Raises:
        FileNotFoundError: it is in neither place.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return str(folder)
    raise FileNotFoundError(f"seqrnn's conf/ is missing: neither in {package} nor beside it; reinstall seqrnn")


def run(command: Callable[[], Any]) -> None:
    """Runs a command; a user's error is shown without a traceback, and decides the exit code."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    wants_traceback = before not in (None, "", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hydra hands its errors over instead of ending the process
    try:
        command()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except UserError as error:
        _fail([] if error.shown else error.problems, error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        _fail(explain(error, sys.argv[1:]), 2)
    except BrokenPipeError:  # what read our output has gone: `seqrnn-train --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if wants_traceback or error.filename is None:
            raise
        _fail([f"{error.filename}: {error.strerror}; is the path right, and may it be written?"], 2)
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


@contextmanager
def reporting() -> Iterator[None]:
    """Around the body of a job: shows a user's error at once, also when it is one job of a sweep that goes on."""
    try:
        yield
    except UserError as error:
        if HydraConfig.get().mode == RunMode.RUN:
            _remove_if_new_and_empty(Path(HydraConfig.get().runtime.output_dir))
            _fail([] if error.shown else error.problems, error.exit_code)
        if not error.shown:
            print(f"job {HydraConfig.get().job.num}: {error}", file=sys.stderr)
            error.shown = True
        raise


def _remove_if_new_and_empty(directory: Path) -> None:
    """hydra makes the run directory before anything can be checked; an error should leave none behind."""
    if directory.is_dir() and directory.stat().st_mtime >= STARTED and not any(directory.iterdir()):
        directory.rmdir()


def _fail(problems: Sequence[str], exit_code: int) -> None:
    if len(problems) == 1:
        print(f"error: {problems[0]}", file=sys.stderr)
    elif problems:
        print(f"{len(problems)} problems:", *problems, sep="\n  ", file=sys.stderr)
    sys.exit(exit_code)


def explain(error: Exception, arguments: Sequence[str]) -> list[str]:
    """What is wrong with each override that hydra would not compose; if none is to blame, hydra's own words.

    Hydra stops at the first; here each override is tried by itself on top of the sound ones before it.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    for flags in (
        ("--config-dir", "-cd"),
        ("--config-name", "-cn"),
        ("--config-path", "-cp"),
        ("--package", "-p"),
    ):
        parser.add_argument(*flags)
    known, _ = parser.parse_known_args([argument for argument in arguments if argument != "--"])
    GlobalHydra.instance().clear()
    with initialize_config_dir(known.config_path or config_directory(), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        extra = [f"hydra.searchpath=[file://{Path(known.config_dir).resolve()}]"] if known.config_dir else []
        return _try_each(loader, known.config_name or "config", extra, known.overrides) or [_first_lines(error)]


def _try_each(loader: ConfigLoader, name: str, sound: list[str], overrides: Sequence[str]) -> list[str]:
    problems: list[str] = []
    groups = set(loader.list_groups(""))
    # What chooses a group comes first: it decides which keys there are.
    for override in sorted(overrides, key=lambda text: text.partition("=")[0].lstrip("+~") not in groups):
        try:
            single = list(_choices(override))
            for choice in single:
                compose(name, [*sound, choice])
            sound = [*sound, single[0]] if single else sound
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(_explain_one(loader, override, error, compose(name, sound)))
    return problems


def _choices(override: str) -> Iterator[str]:
    """Each value of a sweep, as an override of its own."""
    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        yield override
        return
    key = parsed.get_key_element()
    for value in parsed.sweep_string_iterator():
        yield f"{key}={value}"


def _explain_one(loader: ConfigLoader, override: str, error: Exception, config: DictConfig) -> str:
    key = override.partition("=")[0]
    groups = loader.list_groups("")
    if isinstance(error, MissingConfigException) and key.lstrip("+~") in groups:
        group = key.lstrip("+~")
        options = [option for option in loader.get_group_options(group) if not option.startswith("_")]
        missing = (error.missing_cfg_file or "").rpartition("/")[2]
        return f"{group}={missing}: no such {group}{did_you_mean(missing, options)} (there are: {', '.join(options)})"
    if isinstance(error, MissingConfigException):
        return _first_lines(error)
    keys = [*groups, *_keys(OmegaConf.to_container(config, resolve=False))]
    if "=" not in override:
        return f"{override}: not an override; write key=value"
    if key.lstrip("+~") not in keys and not key.startswith("+"):
        nearest = did_you_mean(key, keys) or did_you_mean(key.rpartition(".")[2], keys)
        return f"{key}: no such key{nearest or '; --cfg job shows them all'}"
    return f"{override}: {_first_lines(error)}"


def _keys(values: Any, prefix: str = "") -> Iterator[str]:
    for key, value in values.items() if isinstance(values, dict) else ():
        yield f"{prefix}{key}"
        yield from _keys(value, f"{prefix}{key}.")


def _first_lines(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:2] if line.strip())
