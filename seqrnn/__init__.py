"""seqrnn: config-driven experiments on recurrent networks.

    import seqrnn

    run = seqrnn.run(["task=integral", "model=gru", "seed=3"])  # trains
    run = seqrnn.load("outputs/integral-gru/…")                 # reads
    run.summary["test"], run.metrics, run.network(), run.plot()
    runs = seqrnn.load_all("outputs/sweep")                     # reads many
    runs.table, runs.curves

Importing the package imports nothing else; what is named here is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqrnn.api import load, run
    from seqrnn.errors import ConfigError, DataError, Diverged, UserError
    from seqrnn.registry import register
    from seqrnn.results import Run
    from seqrnn.run_table import Runs, load_all

__version__ = "0.1.0"
__all__ = ["ConfigError", "DataError", "Diverged", "Run", "Runs", "UserError", "load", "load_all", "register", "run"]

_HOMES = {
    "run": "seqrnn.api",
    "load": "seqrnn.api",
    "Run": "seqrnn.results",
    "load_all": "seqrnn.run_table",
    "Runs": "seqrnn.run_table",
    "register": "seqrnn.registry",
    **dict.fromkeys(("ConfigError", "DataError", "Diverged", "UserError"), "seqrnn.errors"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'seqrnn' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
