"""What ``python -m seqrnn.reproduce`` does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from seqrnn.errors import ConfigError, UserError, printable
from seqrnn.keys import as_override
from seqrnn.recording.terminal import Screen
from seqrnn.reproduction import measuring, presentation
from seqrnn.reproduction.catalogue import FIGURES, chosen
from seqrnn.reproduction.figure import Figure
from seqrnn.reproduction.measuring import Result
from seqrnn.rundir.atomic import replacing
from seqrnn.rundir.lock import Lock
from seqrnn.rundir.strict_json import to_json

ERASED = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))  # the line of a terminal
RUNS, RESULTS = "runs", "results.json"  # in the folder of results


class NotReproduced(UserError):
    """Figures that should be reproduced were not."""

    exit_code = 1


def reproduce(
    names: Sequence[str] = (),
    *,
    quick: bool = False,
    folder: Path = Path("outputs/reproduce"),
    document: Path | None = None,
    data_directory: Path | None = None,
) -> dict[str, Result]:
    """Repeats published figures, prints a table, and writes results.json. Runs that have finished are not repeated,
    and interrupted ones are resumed.

    Args:
        names: of figures, or of groups of them; none: all but those that take an hour or more.
        quick: only figures that take seconds.
        folder: of results.
        document: is filled with all figures that have been measured, in this call or before it.
        data_directory: where MNIST lies.

    Raises:
        ConfigError: a name is unknown, the document has no place for figures, another command is making runs in the
            folder, or it cannot be written.
        NotReproduced: a figure was not reproduced, or its runs could not be made.
    """
    screen = Screen(highlight=False)
    figures = {figure.name: figure for figure in chosen(names, quick)}
    if document is not None:
        presentation.check(document)
    with _locked(folder):
        results, problems = _measure_all(figures, folder, data_directory, screen)
        screen.print()
        screen.print(presentation.table(figures, results))
        screen.print()
        known = {figure.name: figure for figure in FIGURES}
        found = {name: measuring.result_of(figure, folder / RUNS) for name, figure in known.items()}
        measured = {name: result for name, result in found.items() if result is not None}
        written = _write(folder, known, measured)
    screen.print(Text(printable(f"results: {written}")), soft_wrap=True)
    if document is not None:
        presentation.fill(document, known, measured)
    problems += [f"{name}: not reproduced" for name, result in results.items() if result.verdict == "not reproduced"]
    if problems:
        raise NotReproduced(*problems)
    return results


def show_list() -> None:
    """Prints the names of all figures, and what they are of."""
    screen = Screen(highlight=False)
    for figure in FIGURES:
        screen.print(Text(f"{figure.name:<22} {figure.length:<6} {figure.what}"), soft_wrap=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Creates the folder of results, and keeps other commands from making its runs at the same time.

    Raises:
        ConfigError: another command does, or the folder cannot be written.
    """
    runs = folder / RUNS
    lock = Lock(runs / ".lock", runs / ".owner")
    try:
        runs.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be written: {error.strerror or error}; choose another") from None
    try:
        yield
    finally:
        lock.release()


def _measure_all(
    figures: Mapping[str, Figure], folder: Path, data_directory: Path | None, screen: Screen
) -> tuple[dict[str, Result], list[str]]:
    """Returns the results by name, and what went wrong with figures whose runs could not be made."""
    results: dict[str, Result] = {}
    problems = []
    for number, figure in enumerate(figures.values(), 1):
        place = f"{number}/{len(figures)}  {figure.name}"
        try:
            result = _measure(figure, folder, data_directory, screen, place)
        except UserError as error:
            problems.append(f"{figure.name}: {'; '.join(error.problems)}")
            screen.control(ERASED)
            screen.print(Text(f"{place}: could not be run"))
            continue
        results[figure.name] = result
        screen.control(ERASED)
        screen.print(Text(f"{place}: {result.verdict}"))
    return results, problems


def _measure(figure: Figure, folder: Path, data_directory: Path | None, screen: Screen, place: str) -> Result:
    others = []
    if data_directory is not None and measuring.needs_mnist(figure):
        others.append(as_override("task.data_dir", str(data_directory.absolute())))

    def announce(seed: int) -> None:
        if screen.is_terminal:
            screen.control(ERASED)
            # A run that prints what every training prints begins on the next line.
            screen.print(Text(f"{place}: run {seed + 1} of {figure.seeds}"), end="\n" if figure.is_slow else "")

    measuring.make(figure, folder / RUNS, others, announce)
    result = measuring.result_of(figure, folder / RUNS)
    assert result is not None, "its runs have just been made"
    return result


def _write(folder: Path, figures: dict[str, Figure], results: dict[str, Result]) -> Path:
    """Writes results.json: all figures that have been measured, with their commands."""
    content = {
        name: {
            "what": figures[name].what,
            "published": figures[name].published,
            "source": figures[name].source,
            "tolerated": figures[name].tolerated,
            "command": figures[name].command(),
            **asdict(result),
        }
        for name, result in results.items()
    }
    path = folder / RESULTS
    with replacing(path) as temporary:
        temporary.write_text(to_json(content, indent=1) + "\n", encoding="utf-8")
    return path
