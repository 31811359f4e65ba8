"""Shared by all tests: the command, in this process."""

from __future__ import annotations

import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from covering import cover
from faults import Server, serving
from helpers import STRATEGIES, Finished, MakeStrategy

from seqrnn import train

hypothesis.settings.register_profile("seqrnn", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("seqrnn")


def pytest_configure() -> None:
    """Lets Ctrl-C interrupt, which a shell's background job ignores: tests send it to themselves."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before -m deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks those cases as long that ``@pytest.mark.covering`` does not choose, and those beyond
    ``@pytest.mark.first``. Cases that its second strength does not need are left out."""
    products, seen, left_out = defaultdict(list), Counter[str](), set[pytest.Item]()
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("covering"):
            products[item.nodeid.partition("[")[0]].append(item)
        if first := item.get_closest_marker("first"):
            test = item.nodeid.partition("[")[0]
            seen[test] += 1
            if seen[test] > first.args[0]:
                item.add_marker(pytest.mark.long)
    for cases in products.values():
        strength, *of_long = cases[0].get_closest_marker("covering").args  # type: ignore[union-attr]
        ids = [case.callspec._idlist for case in cases]  # an id for each parameter
        chosen = cover(ids, strength)
        kept = cover(ids, *of_long) | chosen if of_long else range(len(cases))
        for number, case in enumerate(cases):
            if number not in kept:
                left_out.add(case)
            elif number not in chosen:
                case.add_marker(pytest.mark.long)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Forks runs that may be killed; one for each worker, since it takes seconds to start."""
    with serving() as server:
        yield server


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Finished]:
    """Runs ``python -m seqrnn.train`` with these overrides in an empty directory; the results go to ``run``."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Finished:
        directory = tmp_path / "run"
        where = (
            []
            if any(
                "dir=" in argument or argument in ("-m", "--version") or "resume=run" in argument
                for argument in arguments
            )
            else [f"hydra.run.dir={directory}"]
        )
        monkeypatch.setattr(sys, "argv", ["seqrnn-train", *arguments, *where])
        capfd.readouterr()
        try:
            train.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return Finished(code, out, err, directory)

    return run


@pytest.fixture
def no_diagnosis(monkeypatch: pytest.MonkeyPatch) -> None:
    """With it, ``diagnose=true`` measures vital signs during the training, and makes no diagnosis at its end."""
    monkeypatch.setattr("seqrnn.diagnosis.session.diagnose_finished_run", lambda *_: None)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Two test workers share two cores."""
    torch.set_num_threads(1)


@pytest.fixture(params=STRATEGIES, scope="session")
def make_strategy(request: pytest.FixtureRequest) -> MakeStrategy:
    """Makes one after another of the ways to compute updates."""
    return STRATEGIES[request.param]
