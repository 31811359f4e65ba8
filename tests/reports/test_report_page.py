"""The page as text: what stands in it, and that texts from anyone stay texts."""

from __future__ import annotations

import base64
import errno
import gzip
import hashlib
import io
import itertools
import json
import os
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

from benchmarks.invented_sweep import write_run, write_sweep
from seqrnn import report
from seqrnn.errors import ConfigError, DataError
from seqrnn.reports import curves, numbers, page, writing
from seqrnn.reports.content import content_of
from seqrnn.reports.gathering import gather
from seqrnn.reports.links import link_to
from seqrnn.reports.thumbnails import thumbnail
from seqrnn.reports.writing import write_after_sweep, write_report
from seqrnn.sweeping.comparison import half_width
from seqrnn.sweeping.directory import Outcome, SweepDirectory
from seqrnn.sweeping.search_record import SearchRecord, SearchTrial, write_search

FINISHED = Outcome(status="finished", seconds=1.0)
HOSTILE = '</script><!--<img src=x onerror=alert(1)>\u2028\u202e" onclick="alert(1)\' javascript:alert(1)'


class Page(HTMLParser):
    """Collects the elements, addresses, handlers and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.policy = ""
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._in = tag
        for name, value in attrs:
            if name in ("href", "src"):
                self.links.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
            if name == "content" and "default-src" in (value or ""):
                self.policy = value or ""

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        (self.scripts if self._in in ("script", "style") else self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sweeps") / "mine"
    write_sweep(directory, runs=12, seeds=3, rows=40, failing=1)
    return directory


def data_of(found: Page) -> dict[str, Any]:
    (text,) = [script for script in found.scripts if script.startswith('{"metric"')]
    data: dict[str, Any] = json.loads(text)
    return data


def test_the_command_writes_one_file_with_scores_failures_and_commands(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.main([str(sweep)])
    assert capsys.readouterr().out == f"{sweep / 'report.html'}\n"
    found = read(sweep / "report.html")
    data = data_of(found)
    best = data["rows"][0]
    scores = [
        json.loads(path.read_text())["test"]["mse"]
        for path in sorted(sweep.glob("*/summary.json"))
        if json.loads((path.parent / "job.json").read_text())["values"]["model"].get("name") == best["settings"][0]
        and json.loads(path.read_text())["test"]
    ]
    assert best["mean"] in [pytest.approx(np.mean(scores[k : k + 3])) for k in range(len(scores))]
    assert best["half"] == pytest.approx(half_width([score for _, score in best["seeds"]]))
    assert "10 finished" in found.text
    assert "1 failed" in found.text
    assert "task.path=data.csv: there is no such file" in found.text
    assert (
        found.text.count("python -m seqrnn.train task=sincos model=") == 14
    )  # each run, and those that failed again
    assert "python -m seqrnn.train -m task=sincos model=" in found.text
    assert f"python -m seqrnn.train -m sweep.resume={sweep}" in found.text
    assert "paired t-test" in found.text
    assert "corrected by the method of Holm for" in found.text
    assert {link.partition("/")[2] for link in found.links if link.startswith("./")} >= {"0000", "0001", "0011"}
    assert sum(link.startswith("data:image/webp;base64,") for link in found.links) == len(data["rows"])


def test_nothing_may_be_loaded_from_elsewhere_and_only_the_own_scripts_may_run(sweep: Path) -> None:
    found = read(write_report([sweep]))
    assert all(link.startswith(("./", "#", "data:image/")) for link in found.links)
    assert "default-src 'none'" in found.policy
    allowed = re.findall(r"'sha256-([^']+)'", found.policy)
    library, script = found.scripts[-2:]
    digests = [
        base64.b64encode(hashlib.sha256(text).digest()).decode()
        for text in (script.encode(), gzip.decompress(base64.b64decode(library)))
    ]
    assert allowed == digests
    assert "unsafe-eval" not in found.policy
    assert found.handlers == []


def test_texts_from_anyone_stay_texts(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path / "javascript:alert(1) <b>")
    (sweep.path / ".sweep").mkdir(parents=True)
    for number in range(2):
        directory = write_run(sweep, number, {"model": f"{HOSTILE}{number}", "seed": 0}, FINISHED, rows=2)
        summary = json.loads((directory / "summary.json").read_text())
        summary["baselines"] = {HOSTILE: {"mse": 0.5}}
        (directory / "summary.json").write_text(json.dumps(summary))
    write_run(sweep, 2, {"model": "x"}, Outcome(status="failed", reason=HOSTILE), rows=2)
    trial = SearchTrial(number=0, job="0000", state="complete", value=1.0, parameters={HOSTILE: HOSTILE})
    record = SearchRecord(metric=HOSTILE, direction="minimize", trials=[trial], importance={HOSTILE: 1.0})
    write_search(sweep.path, record)
    found = read(write_report([sweep.path]))
    assert found.handlers == []
    assert "</script><!--<img src=x onerror=alert(1)>" in found.text
    assert found.tags.count("script") == 4  # two of data, the library, and ours: none was closed, none was opened
    assert all(link.startswith(("./", "#", "data:image/")) for link in found.links)
    raw = (sweep.path / "report.html").read_text(encoding="utf-8")
    assert "\u2028" not in raw
    assert "\u202e" not in raw
    assert "onerror=alert(1)>" not in raw


def test_addresses_are_relative_and_no_name_is_a_scheme(tmp_path: Path) -> None:
    assert link_to(tmp_path / "javascript:alert(1)", tmp_path) == "./javascript%3Aalert%281%29"
    assert link_to(tmp_path / "a b" / "ü?#%", tmp_path) == "./a%20b/%C3%BC%3F%23%25"
    assert link_to(tmp_path / "x", tmp_path / "y") == "./../x"


def test_a_sweep_in_which_nothing_has_a_result_has_a_report(tmp_path: Path) -> None:
    write_sweep(tmp_path, runs=2, seeds=1, failing=2)
    found = read(write_report([tmp_path]))
    assert "no run has a result" in found.text
    assert "Learning curves" not in found.text


def test_numbers_that_no_run_has_do_no_harm(tmp_path: Path) -> None:
    write_sweep(tmp_path, runs=6, seeds=2, rows=3, failing=0)
    for number, values in enumerate(
        (
            {"train_seconds": "long", "test": {"mse": 1e300}},
            {"train_seconds": 1e400, "test": {"mse": 1e308}},
            {"train_seconds": -1, "test": {"mse": 1.7e308}, "updates": 2**60},
            {"train_seconds": [], "test": {"mse": float("nan")}},
        )
    ):
        path = tmp_path / f"{number:04d}" / "summary.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    (tmp_path / "0005" / "status.json").write_text('{"status": "finished", "seconds": Infinity}')
    found = read(write_report([tmp_path]))
    assert len(data_of(found)["rows"]) == 3
    assert "sweep.resume=" not in found.text


def test_a_search_is_shown_with_its_history_and_importance(sweep: Path, tmp_path: Path) -> None:
    write_sweep(tmp_path, runs=2, seeds=1, rows=2, failing=0)
    trials = [
        SearchTrial(number=0, job="0000", state="complete", value=0.5, parameters={"optimizer.lr": 0.1}),
        SearchTrial(number=1, job="0001", state="pruned", value=None, parameters={"optimizer.lr": 1.0}),
    ]
    write_search(
        tmp_path, SearchRecord(metric="mse", direction="minimize", trials=trials, importance={"optimizer.lr": 0.75})
    )
    found = read(write_report([tmp_path]))
    assert "2 trials: 1 complete, 1 pruned" in found.text
    assert "75%" in found.text


def test_several_directories_need_a_file_to_write(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="write --out FILE"):
        write_report([sweep, sweep])
    with pytest.raises(ConfigError, match="there is no directory"):
        write_report([sweep], tmp_path / "nosuch" / "r.html")
    path = write_report([sweep, sweep.parent], tmp_path / "both.html")
    assert len(data_of(read(path))["rows"]) == 4  # a run that lies below both is counted once


def test_a_sweep_ends_well_without_plotly_and_says_how_to_get_it(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sweep / "report.html").unlink(missing_ok=True)
    monkeypatch.setattr(page.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    line = write_after_sweep(sweep)
    assert "pip install 'seqrnn[report]'" in line
    assert line.endswith(f"then: python -m seqrnn.report {sweep}")
    assert not (sweep / "report.html").exists()


def test_a_bug_in_the_report_does_not_fail_the_sweep(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("x")

    monkeypatch.setattr("seqrnn.reports.gathering.gather", broken)
    assert write_after_sweep(sweep).startswith("no report: ZeroDivisionError: x")
    assert writing.REPORT == "report.html"


def test_a_full_disk_fails_no_sweep_and_the_report_that_was_not_written_is_named(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    reason = f"no report: {sweep / 'report.html'}: No space left on device"
    assert write_after_sweep(sweep) == f"{reason}; then: python -m seqrnn.report {sweep}"


def test_pictures_are_small_copies_and_bombs_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (1500, 900), "red").save(tmp_path / "a.png")
    source = thumbnail(tmp_path, "a.png")
    image = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
    assert image.size == (720, 432)
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    with pytest.raises(DataError, match="pixels"):
        thumbnail(tmp_path, "bomb.png")
    Image.new("RGB", (5, 5)).save(tmp_path / "x.gif")
    (tmp_path / "x.gif").rename(tmp_path / "x.png")
    with pytest.raises(DataError, match="cannot identify image"):
        thumbnail(tmp_path, "x.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(DataError, match="is a link to"):
        thumbnail(tmp_path / "elsewhere", "link.png")


def test_curves_are_means_over_runs_with_the_band_between_lowest_and_highest() -> None:
    def table(updates: list[float], values: list[float]) -> dict[str, Any]:
        x = np.array(updates)
        return {"updates": x, "timesteps": 2 * x, "seconds": x / 10, "eval_mse": np.array(values)}

    tables = [table([0, 10, 20, 30], [4, 3, 2, 1]), table([0, 20], [6, 4]), table([0, 10], [np.nan, 1])]
    runs = [run for one in tables if (run := curves._thinned(one, "eval_mse", 100))]
    curve = curves._over_runs(runs)
    assert curve["updates"] == [0, 10, 20, 30]
    assert curve["timesteps"] == [0, 20, 40, 60]
    assert curve["mean"] == [5, 3, 3, 1]
    assert curve["low"] == [4, 1, 2, 1]
    assert curve["high"] == [6, 5, 4, 1]
    thinned = curves._thinned(table([*range(10)], [*range(10)]), "eval_mse", 4)
    assert thinned is not None
    assert list(thinned[-1]) == [1, 4, 7, 9]


def test_a_page_of_any_number_of_runs_stays_small() -> None:
    for conditions in (1, 10, 1000, 5000):
        points = curves.points_of_a_curve(conditions, 3)
        assert points * conditions * 3 * 6 <= max(curves.MOST_NUMBERS, curves.FEWEST_POINTS * conditions * 18)
        assert 24 <= points <= 200


def test_small_intervals_large_counts_and_values_in_order(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path)
    (tmp_path / ".sweep").mkdir()
    errors = {None: 12.31, 2.0: 12.35, 10.0: 12.39}
    for number, (clip, seed) in enumerate(itertools.product(errors, range(3))):
        swept = {"schedule.clip_norm": "null" if clip is None else clip, "seed": seed}
        directory = write_run(
            sweep, number, swept, FINISHED, rows=2, error=errors[clip] + 0.01 * seed + 0.001 * (number % 2)
        )
        path = directory / "summary.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "updates": 2_512_345}))
    content = content_of(gather([tmp_path]), [tmp_path], tmp_path)
    (ranking,) = content.rankings
    (key,) = ranking.keys
    assert key.values == ["2.0", "10.0", "null"]
    assert [row.half_text for row in ranking.rows] == 3 * ["0.025"]
    assert [row.difference_text for row in ranking.rows] == ["", "+0.0403", "+0.0800"]
    assert [row.updates_text for row in ranking.rows] == 3 * ["2,512,345"]


def test_the_line_that_resumes_a_sweep_is_read_by_hydra_as_it_is_meant(tmp_path: Path) -> None:
    directory = tmp_path / "runs (2), new\u202e"
    write_sweep(directory, runs=2, seeds=1, rows=2, failing=1)
    command = content_of(gather([directory]), [directory], directory).resume
    assert command.isprintable()
    *_, word = shlex.split(
        content_of(gather([directory]), [directory], directory).resume.replace("\\u202e", "\u202e")
    )
    assert OverridesParser.create().parse_override(word).value() == str(directory)


def test_the_numbers_of_a_column_have_the_same_decimals() -> None:
    form = numbers.column_format([0.0123, 4.5, None])
    assert [form(value) for value in (0.0123, 4.5, -1.0, None)] == ["0.0123", "4.5000", "−1.0000", ""]
    assert numbers.column_format([1e-9, 1.0])(1e-9) == "1.00e-09"
    assert numbers.column_format([100.0, 20000.0])(20000.0) == "20,000"
    assert numbers.signed("−1.0") == "−1.0"
    assert [numbers.p_value(p) for p in (None, 0.0001, 0.0123, 0.5)] == ["", "< 0.001", "0.012", "0.50"]
