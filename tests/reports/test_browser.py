"""The page in a headless Chromium without network: it loads, sorts, filters, groups, draws, and works by keyboard."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.invented_sweep import write_run, write_sweep
from seqrnn.reports.writing import write_report
from seqrnn.sweeping.directory import Outcome, SweepDirectory
from seqrnn.sweeping.search_record import SearchRecord, SearchTrial, write_search

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=window.hit=1></script><script>window.hit=1</script>&lt;b&gt;<b>"
WAIT = 60.0  # seconds, on a machine that is busy with other things


def wait_for(page: Any, condition: str) -> None:
    """Waits until an expression is true. (The browser's own way to wait needs eval, which the page forbids.)"""
    end = time.monotonic() + WAIT
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.05)


def traces(figure: str) -> str:
    """Returns the expression of the traces of a figure that answer to the mouse."""
    return f"document.querySelector('.{figure} .plot').data.filter(trace => trace.hoverinfo === 'text')"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sweeps") / "mine"
    write_sweep(directory, runs=40, seeds=5, rows=60, failing=1)
    trials = [
        SearchTrial(number=n, job="x", state="complete", value=1 / (n + 1), parameters={"optimizer.lr": 0.1 * n})
        for n in range(5)
    ]
    trials.append(SearchTrial(number=5, job="x", state="pruned", value=None, parameters={}))
    importance = {"model.hidden_size": 0.75, "task.a_key_that_is_as_long_as_a_narrow_window": 0.25}
    write_search(directory, SearchRecord(metric="mse", direction="minimize", trials=trials, importance=importance))
    return write_report([directory])


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a report; whatever the browser complains about fails the test."""
    complaints: list[str] = []
    requested: list[str] = []
    contexts = []

    def open_page(path: Path, **options: Any) -> Any:
        context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900}, **options)
        context.set_default_timeout(1000 * WAIT)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(path.as_uri())
        wait_for(page, "typeof Plotly !== 'undefined' && figures.ready")
        page.evaluate("figures.drawAll()")
        wait_for(page, "document.querySelectorAll('.plot:not(.js-plotly-plot)').length === 0")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requested if not url.startswith(("file:", "data:", "blob:"))] == []


def column(page: Any, number: int) -> list[str]:
    """The texts of a column of the leaderboard, from the top."""
    return [text.strip() for text in page.locator(f"tr.row:visible > :nth-child({number})").all_inner_texts()]


def test_it_loads_without_network_and_draws_every_plot(report: Path, opened: Callable[..., Any]) -> None:
    page = opened(report)
    plots = page.evaluate(
        "[...document.querySelectorAll('.plot')].map(p => [p.getAttribute('aria-label'), p.data.length])"
    )
    assert len(plots) == 8  # curves, four keys, parallel coordinates, cost, search
    assert all(label and count for label, count in plots)
    assert page.locator(".pictures img").first.evaluate("image => image.naturalWidth") > 300
    drawn = page.evaluate(
        "document.querySelector('.curves .plot').data.filter(t => t.hoverinfo === 'text').map(t => t.y)"
    )
    data = json.loads(page.locator("script.data").first.text_content())
    assert drawn[0] == data["rows"][0]["curves"]["eval_mse"]["mean"]
    assert page.evaluate("document.documentElement.scrollWidth") == 1280


def test_it_sorts_filters_and_groups(report: Path, opened: Callable[..., Any]) -> None:
    page = opened(report)
    assert column(page, 1) == [str(rank) for rank in range(1, 9)]
    head = page.get_by_role("columnheader", name="lr")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    rates = [float(text) for text in column(page, 3)]
    assert rates == sorted(rates)
    assert len(set(rates)) > 1
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in column(page, 3)] == sorted(rates, reverse=True)
    assert "sorted by lr, descending" in page.locator(".status").inner_text()
    models = column(page, 2)
    page.get_by_role("searchbox", name="Filter").fill("model=lstm")
    assert column(page, 2) == ["lstm"] * models.count("lstm")
    assert f"{models.count('lstm')} of 8 conditions" in page.locator(".status").inner_text()
    page.get_by_role("searchbox", name="Filter").fill("-model=lstm")
    assert len(column(page, 2)) == 8 - models.count("lstm")
    wait_for(page, f"{traces('cost')}[0].x.length === {8 - models.count('lstm')}")
    page.locator("button.reset").click()
    page.locator("select.group").select_option(label="model")
    groups = page.locator("tr.group").all_inner_texts()
    assert sorted(text.split()[2].removesuffix(":") for text in groups) == sorted(set(models))
    assert sum(int(text.split()[3]) for text in groups) == 8
    rows = json.loads(page.locator("script.data").first.text_content())["rows"]
    for text in groups:
        means = [row["mean"] for row in rows if row["settings"][0] == text.split()[2].removesuffix(":")]
        best, median = (float(part.split()[1]) for part in text.split(": ", 1)[1].split(", ")[1:])
        assert (best, median) == pytest.approx((min(means), statistics.median(means)), rel=6e-4)
    page.locator("tr.group button").first.click()
    assert len(column(page, 2)) < 8


def test_a_condition_opens_to_its_runs_by_keyboard(report: Path, opened: Callable[..., Any]) -> None:
    page = opened(report, permissions=["clipboard-read", "clipboard-write"])
    button = page.locator("button.open").first
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    runs = page.locator(f"#{button.get_attribute('aria-controls')}")
    assert runs.is_visible()
    assert runs.locator("tbody tr").count() == 5
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "A"
    link = page.evaluate("document.activeElement.href")
    assert link == (report.parent / link.rpartition("/")[2]).as_uri()
    assert (report.parent / link.rpartition("/")[2] / "config.yaml").is_file()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Tab")  # the command
    page.keyboard.press("Tab")  # the button that copies it
    page.keyboard.press("Enter")
    wait_for(page, "document.activeElement.textContent === 'Copied'")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("python -m seqrnn.train task=sincos model=")


def test_a_curve_can_be_hidden_and_what_is_drawn_chosen(report: Path, opened: Callable[..., Any]) -> None:
    page = opened(report)
    count = f"{traces('curves')}.length"
    assert page.evaluate(count) == 5
    chip = page.locator(".legend button").first
    chip.press("Enter")
    assert chip.get_attribute("aria-pressed") == "false"
    wait_for(page, f"{count} === 4")
    page.locator("select.column").select_option(label="training loss")
    page.locator("select.axis").select_option("timesteps")
    wait_for(page, "document.querySelector('.curves .plot').layout.yaxis.title.text === 'training loss'")
    wait_for(page, "document.querySelector('.curves .plot').layout.xaxis.title.text === 'timesteps'")


def test_costs_are_read_off_a_logarithmic_axis_where_they_spread(report: Path, opened: Callable[..., Any]) -> None:
    page = opened(report)
    page.locator("select.cost").select_option("updates")
    wait_for(page, f"{traces('cost')}[0].text.every(text => text.endsWith(' updates'))")
    costs = [row["updates"] for row in json.loads(page.locator("script.data").first.text_content())["rows"]]
    assert 10 * min(costs) < max(costs) < 30 * min(costs)
    assert page.evaluate("document.querySelector('.cost .plot').layout.xaxis.type") == "log"
    shown = [text.rpartition("<br>")[2] for text in page.evaluate(f"{traces('cost')}[0].text")]
    assert shown == [f"{cost:g} updates" for cost in costs]
    page.get_by_role("searchbox", name="Filter").fill("window=2 model=rnn")
    wait_for(page, "document.querySelector('.cost .plot').layout.xaxis.type === 'linear'")


def test_light_and_dark(report: Path, opened: Callable[..., Any]) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    assert opened(report, color_scheme="dark").evaluate(paper) == "rgb(18, 20, 24)"
    page = opened(report, color_scheme="light")
    assert page.evaluate(paper) == "rgb(247, 247, 245)"
    toggle = page.locator("#theme")
    toggle.click()
    assert toggle.get_attribute("aria-pressed") == "true"
    assert page.evaluate(paper) == "rgb(18, 20, 24)"
    wait_for(page, "document.querySelector('.cost .plot').layout.paper_bgcolor === '#1a1d23'")


def test_texts_with_markup_stay_texts(tmp_path: Path, opened: Callable[..., Any]) -> None:
    sweep = SweepDirectory(tmp_path)
    (tmp_path / ".sweep").mkdir()
    for number in range(3):
        swept = {"model": f"{HOSTILE}{number}", "optimizer.lr": 0.1 * number + 0.1, "seed": 0}
        directory = write_run(sweep, number, swept, Outcome(status="finished"), rows=5, error=0.1 + number)
        summary = json.loads((directory / "summary.json").read_text())
        for name in ("baselines", "validation_baselines"):
            summary[name] = {HOSTILE: {"mse": 0.5, "loss": 0.5}}
        (directory / "summary.json").write_text(json.dumps(summary))
    trial = SearchTrial(number=0, job="x", state="complete", value=1.0, parameters={HOSTILE: HOSTILE})
    record = SearchRecord(metric="mse", direction="minimize", trials=[trial], importance={HOSTILE: 1.0})
    write_search(tmp_path, record)
    page = opened(write_report([tmp_path]))
    page.locator("select.group").select_option(label="model")
    assert page.evaluate("window.hit") is None
    assert page.locator("img").count() == 0
    assert page.locator("b, .plot a").count() == 0
    assert HOSTILE in page.locator("tr.group").first.inner_text()
    shown = page.evaluate("document.querySelector('.marginal .xtick text').textContent")
    assert HOSTILE.startswith(shown.removesuffix("…"))
    page.locator(".curves .plot").hover(position={"x": 60, "y": 200})
    assert page.locator(".curves .plot b, .curves .plot img").count() == 0


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(width: int, report: Path, opened: Callable[..., Any]) -> None:
    page = opened(report)
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_screen_readers_find_names_captions_and_text_alternatives(report: Path, opened: Callable[..., Any]) -> None:
    page = opened(report)
    assert page.evaluate("[...document.querySelectorAll('table')].every(t => t.caption)")
    assert page.evaluate("[...document.querySelectorAll('th')].every(h => h.scope)")
    assert page.evaluate("[...document.querySelectorAll('.plot, img')].every(p => p.ariaLabel || p.alt)")
    named = "c => c.textContent.trim() || c.ariaLabel || c.labels?.length"
    assert page.evaluate(f"[...document.querySelectorAll('button, select, input')].every({named})")
    assert page.locator("h1").count() == 1
    assert page.get_by_role("region", name="Leaderboard of sincos").get_attribute("tabindex") == "0"
