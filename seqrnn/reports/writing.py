"""Writes report.html for run directories."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from seqrnn.errors import ConfigError, UserError, printable
from seqrnn.rundir.atomic import replacing

REPORT = "report.html"


def write_report(paths: Sequence[Path], out: Path | None = None) -> Path:
    """Writes the report of all runs at or below directories; returns its path.

    Args:
        out: the file; None: report.html in the directory, of which there must then be one.

    Raises:
        ConfigError: it is not clear where it should be written, or the plotting library is not installed.
        DataError: a directory does not exist, or they hold no run at all.
    """
    if out is None and len(paths) != 1:
        raise ConfigError("several directories: write --out FILE to say where their report should be written")
    from seqrnn.reports import content, gathering, page

    page.plotting_library()  # before all runs are read
    path = paths[0] / REPORT if out is None else out
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no directory {path.parent}")
    gathered = gathering.gather(paths)
    text = page.render(content.content_of(gathered, paths, path.parent))
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_after_sweep(directory: Path) -> str:
    """Writes the report of a sweep that has ended; returns a line that says where it is, or why there is none. It
    raises nothing: the sweep has ended well without it."""
    line = shlex.join(["python", "-m", "seqrnn.report", str(directory)])
    try:
        return f"report: {write_report([directory])}"
    except UserError as error:
        return f"no report: {'; '.join(map(printable, error.problems))}; then: {line}"
    except OSError as error:
        return f"no report: {printable(str(error.filename or directory))}: {error.strerror or error}; then: {line}"
    except Exception as error:
        return f"no report: {type(error).__name__}: {printable(str(error))}; to see where: HYDRA_FULL_ERROR=1 {line}"
