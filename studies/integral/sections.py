"""The sections of docs/integral.md: each makes its runs, draws its picture and fills its tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.measure import median
from benchmarks.report import Section, Table
from seqrnn.diagnosis.intervals import Interval, number
from seqrnn.plots import style
from studies.integral import arms, exact, figures, forgetting
from studies.integral.arms import ACCUMULATED, FORGETTING, POINTS, Arm
from studies.integral.figures import Heat
from studies.integral.study import Study

MARKS = {FORGETTING: "forgetting", ACCUMULATED: "accumulated"}
COMPROMISE = Arm(window=10, update_every=10)  # what others than the author's schedules start from


def step_sizes(study: Study) -> Section:
    """Returns the section on step size × update_every."""
    study.make_arms(arms.step_sizes())
    maps, title = [], {"constant": "constant", "cosine": "decaying to 0 (cosine)"}
    for decay in ("constant", "cosine"):
        grid = [[Arm(update_every=every, rate=rate, decay=decay) for rate in arms.RATES] for every in arms.EVERY]
        maps.append(_heat(study, title[decay], grid, arms.EVERY, [f"{rate:g}" for rate in arms.RATES]))
    figures.heat_maps(
        maps, ("update_every", "optimizer.lr"),
        "Step size by update_every",
        "Test MAE. 250,000 points, one stream, gradients reach back 2 timesteps; all that changes is how often the "
        "weights move, how far, and whether ever less.",
        study.pictures / "study_step_size.png",
    )  # fmt: skip
    rows = [
        ["accumulated (0.0002, constant)", _error(study, ACCUMULATED), "1"],
        *_changes(study, ACCUMULATED, [
            ("the best constant step size", _best_constant(study, ACCUMULATED)),
            ("the best that decays", study.tuned(ACCUMULATED)),
        ]),
        ["forgetting (0.0002, constant)", _error(study, FORGETTING), "1"],
        *_changes(study, FORGETTING, [
            ("the best constant step size", _best_constant(study, FORGETTING)),
            ("0.0002, but decaying", replace(FORGETTING, decay="cosine")),
            ("the best that decays", study.tuned(FORGETTING)),
        ]),
    ]  # fmt: skip
    return _section(study, [Table("Step size", ["schedule", "test MAE", "× the author's"], rows)])


def _best_constant(study: Study, arm: Arm) -> Arm:
    choices = [replace(arm, rate=rate) for rate in arms.RATES]
    return choices[int(np.argmin([np.log(study.result(choice).validation).mean() for choice in choices]))]


def reach(study: Study) -> Section:
    """Returns the section on window × update_every."""
    study.make_arms(arms.reach())
    columns = [f"{every:,}" for every in arms.EVERY]
    grid = [[Arm(window=window, update_every=every) for every in arms.EVERY] for window in arms.WINDOWS]
    tuned = [[study.tuned(arm) for arm in row] for row in grid]
    figures.heat_maps(
        [
            _heat(study, "the author's step size", grid, arms.WINDOWS, columns),
            _heat(study, "the best step size of each cell, decaying", tuned, arms.WINDOWS, columns),
        ],
        ("window", "update_every"),
        "Window by update_every",
        "Test MAE. 250,000 points, one stream: equal points everywhere, and equal updates down each column.",
        study.pictures / "study_window.png",
    )  # fmt: skip
    rows = []
    for every in arms.EVERY:
        base = Arm(update_every=every)
        for window in arms.WINDOWS[1:]:
            arm = replace(base, window=window)
            rows.append([
                f"2 → {window}, an update every {every} ({arm.updates:,} updates)",
                str(study.ratio(arm, base)),
                str(study.ratio(study.tuned(arm), study.tuned(base))),
            ])  # fmt: skip
    columns = ["window", "× error, author's step size", "× error, both tuned"]
    return _section(study, [Table("How far gradients reach", columns, rows)])


def parallel(study: Study) -> Section:
    """Returns the section on window × streams."""
    study.make_arms(arms.parallel())
    grid = [[arms.side_by_side(window, streams) for streams in arms.STREAMS] for window in arms.WINDOWS]
    tuned = [[study.tuned(arm) for arm in row] for row in grid]
    columns = [f"{streams} × {50 // streams}" for streams in arms.STREAMS]
    figures.heat_maps(
        [
            _heat(study, "the author's step size", grid, arms.WINDOWS, columns),
            _heat(study, "the best step size of each cell, decaying", tuned, arms.WINDOWS, columns),
        ],
        ("window", "streams × update_every"),
        "Window by streams",
        "Test MAE. 250,000 points, 50 to an update, stride 2: equal points, updates and reach along each row. What "
        "changes is whether the 50 points of an update are neighbours or come from several streams.",
        study.pictures / "study_streams.png",
    )  # fmt: skip
    rows = []
    for row, best in zip(grid, tuned, strict=True):
        for arm, tuned_arm in zip(row[1:], best[1:], strict=True):
            rows.append([
                f"1 → {arm.streams} streams, window {arm.window}",
                str(study.ratio(arm, row[0])), str(study.ratio(tuned_arm, best[0])),
            ])  # fmt: skip
    columns = ["streams", "× error, author's step size", "× error, both tuned"]
    return _section(study, [Table("One stream or several", columns, rows)])


def carried(study: Study) -> Section:
    """Returns the section on carrying the state."""
    study.make_arms(arms.carried())
    rows = []
    for window in (2, 50, 250):
        cell = Arm(window=window, update_every=250)
        kept, dropped = study.tuned(cell), study.tuned(replace(cell, carry=False))
        rows.append([str(window), _error(study, kept), _error(study, dropped), str(study.ratio(dropped, kept))])
    columns = ["window", "MAE, state carried", "MAE, every window from a zero state", "× error"]
    note = "1,000 updates, each after 250 points of one stream; step size tuned in each cell, decaying."
    return _section(study, [Table("Carrying the state", columns, rows, note)])


def longer(study: Study) -> Section:
    """Returns the section on the number of points and updates."""
    study.make_arms([*arms.longer(), *arms.step_sizes()])
    lines = []
    kinds = [
        ("window 2, every 50", style.ORANGE, ACCUMULATED, (1, 4, 16)),
        ("window 2, every 2", style.BLUE, FORGETTING, (1, 4)),
        ("window 10, every 10", style.GREEN, COMPROMISE, (1, 4, 16)),
    ]
    rows = []
    for label, colour, arm, factors in kinds:
        sizes = [replace(arm, points=factor * POINTS) for factor in factors]
        for kind, style_of_line, found in (
            ("lr 0.0002", ":", sizes), ("tuned, decaying", "-", [study.tuned(size) for size in sizes]),
        ):  # fmt: skip
            points = [(float(one.updates), study.result(one).interval) for one in found]
            lines.append((f"{label}, {kind}", colour, style_of_line, points))
            last = found[-1]
            rows.append([
                f"{label}, {kind}: {found[0].points:,} → {last.points:,} points",
                f"{found[0].updates:,} → {last.updates:,}", str(study.ratio(last, found[0])),
            ])  # fmt: skip
    sizes = [replace(ACCUMULATED, streams=streams, points=streams * POINTS) for streams in (1, 4, 16)]
    for kind, found in (("lr 0.0002", sizes), ("tuned, decaying", [study.tuned(size) for size in sizes])):
        rows.append([
            f"1 → 16 streams, window 2, every 50, {kind}: {POINTS:,} → {16 * POINTS:,} points",
            f"{found[0].updates:,} → {found[-1].updates:,}", str(study.ratio(found[-1], found[0])),
        ])  # fmt: skip
    figures.against_updates(
        lines, "More updates",
        "One stream of 250,000, 1 million and 4 million points; the mean of the seeds, and its 95 % interval.",
        study.pictures / "study_updates.png",
    )  # fmt: skip
    return _section(study, [Table("More of it", ["what", "updates", "× error"], rows)])


def effects(study: Study) -> Section:
    """Returns the section on each change alone: made to the author's repair, and undone in a good schedule."""
    study.make_arms(arms.everything())
    best, author = study.tuned(COMPROMISE), ACCUMULATED
    more = study.tuned(replace(COMPROMISE, points=16 * POINTS))
    forward = [
        ("16 times the points and updates", replace(author, points=16 * POINTS)),
        ("step size tuned, decaying", study.tuned(author)),
        ("step size tuned, constant", _best_constant(study, author)),
        ("an update every 2 points instead of 50", FORGETTING),
        ("25 streams, equal points and updates", arms.side_by_side(2, 25)),
        ("25 streams and window 50, equal points and updates", arms.side_by_side(50, 25)),
        ("16 streams: 16 times the points, equal updates", replace(author, streams=16, points=16 * POINTS)),
        ("window 10 instead of 2", replace(author, window=10)),
        ("window 50 instead of 2", replace(author, window=50)),
    ]
    tuned = study.tuned(author)
    onward = [
        ("16 times the points and updates", study.tuned(replace(author, points=16 * POINTS))),
        ("an update every 10 points instead of 50", study.tuned(replace(author, update_every=10))),
        ("an update every 2 points instead of 50", study.tuned(FORGETTING)),
        ("window 10 instead of 2", study.tuned(replace(author, window=10))),
        ("window 50 instead of 2", study.tuned(replace(author, window=50))),
        ("window 50 instead of 2, and stride 2", study.tuned(arms.side_by_side(50, 1))),
        ("25 streams, equal points and updates", study.tuned(arms.side_by_side(2, 25))),
        ("25 streams and window 50, equal points and updates", study.tuned(arms.side_by_side(50, 25))),
        (
            "16 streams: 16 times the points, equal updates",
            study.tuned(replace(author, streams=16, points=16 * POINTS)),
        ),
    ]
    backward = [
        ("step size 0.0002, constant", COMPROMISE),
        ("step size tuned, but constant", study.tuned(COMPROMISE, "constant")),
        ("an update every 50 points instead of 10", study.tuned(replace(COMPROMISE, update_every=50))),
        ("an update every 2 points instead of 10", study.tuned(replace(COMPROMISE, update_every=2))),
        ("window 2 instead of 10", study.tuned(replace(COMPROMISE, window=2))),
        ("16 times the points and updates", more),
    ]
    groups = [
        ("integral_accumulated, with …", _ranked(study, author, forward)),
        ("the same, step size tuned and decaying, with …", _ranked(study, tuned, onward)),
        ("window 10, every 10, tuned and decaying, with …", _ranked(study, best, backward)),
    ]
    figures.effects(
        [(name, [(text, change) for text, _, change in rows]) for name, rows in groups],
        "What holds the network back",
        "One change at a time. Left of 1, the error is smaller for it. Where the step size is tuned, it is tuned "
        "anew for each schedule, by validation error.",
        study.pictures / "study_effects.png",
    )  # fmt: skip
    tables = [
        Table(name, ["change", "test MAE", "× error"], [
            ["(none)", _error(study, base), "1"],
            *([text, _error(study, arm), str(change)] for text, arm, change in rows),
        ])
        for (name, rows), base in zip(groups, (author, tuned, best), strict=True)
    ]  # fmt: skip
    return _section(study, tables)


def _ranked(study: Study, base: Arm, changes: Sequence[tuple[str, Arm]]) -> list[tuple[str, Arm, Interval]]:
    found = [(text, arm, study.ratio(arm, base)) for text, arm in changes]
    return sorted(found, key=lambda row: row[2].value)


def forgets(study: Study) -> Section:
    """Returns the section on forgetting."""
    decayed = replace(FORGETTING, decay="cosine")
    study.make_arms([FORGETTING, decayed, ACCUMULATED, *arms.rates(COMPROMISE)])
    kinds = [
        ("integral_forgetting", style.VERMILLION, FORGETTING),
        ("the same, decaying", style.ORANGE, decayed),
        ("integral_accumulated", style.BLUE, ACCUMULATED),
        ("window 10, every 10, tuned", style.GREEN, study.tuned(COMPROMISE)),
    ]
    seeds = range(2 if study.quick else 10)
    lines, rows, raw = [], [], {}
    for label, colour, arm in kinds:
        found = forgetting.measure(study.of(arm), seeds, study.folder / "forgetting", study.processes)
        ages = [age for number_, age in enumerate(forgetting.AGES) if np.isfinite(found.old[:, number_]).all()]
        lines.append((label, colour, [(age, found.relative(age)) for age in ages]))
        fresh = float(np.exp(np.log(found.fresh).mean()))
        rows.append([
            label, f"{fresh:.3f}", str(found.gap),
            f"{fresh * (1 - found.gap.value):.3f}", _error(study, arm),
        ])  # fmt: skip
        raw[arm.name] = {"old": found.old.tolist(), "fresh": found.fresh.tolist()}
    if all(line[2] for line in lines):
        figures.memory(
            lines, "What is forgotten, and when",
            "The error on 50 timesteps, some time after they were trained on, beside that on fresh ones; means over "
            "a run but for its first quarter, ten seeds, 95 % intervals.",
            study.pictures / "study_forgetting.png",
        )  # fmt: skip
    columns = [
        "schedule",
        "error on fresh data, on the way",
        "recency gap",
        "error on the last 50",
        "test MAE, at the end",
    ]
    return Section([Table("Forgetting", columns, rows)], raw)


def solved(study: Study) -> Section:
    """Returns the section on integral_exact."""
    groups = {
        "0 to 4, by which the settings were chosen": exact.made(study, exact.CHOSEN_BY),
        "5 to 9, which it had not seen": exact.made(study, exact.OTHERS),
    }
    found = [one for group in groups.values() for one in group]
    exact.picture(study, found[0].seed, study.pictures / "integral_exact.png")
    rows = [
        [
            str(one.seed), f"{one.mae:.5f}", f"{one.max_error:.4f}", f"{one.parts[0].mean():.5f}",
            f"{one.parts[-1].mean():.5f}", f"{one.change:.2f}", f"{one.largest:.4f}",
        ]
        for one in found
    ]  # fmt: skip
    for name, group in groups.items():
        first, last = (np.mean([one.parts[part].mean() for one in group]) for part in (0, -1))
        rows.append([
            f"mean of {name}", f"{np.mean([one.mae for one in group]):.5f}",
            f"{np.mean([one.max_error for one in group]):.4f}", f"{first:.5f}", f"{last:.5f}",
            f"{np.mean([one.change for one in group]):.2f}", f"{np.mean([one.largest for one in group]):.4f}",
        ])  # fmt: skip
    columns = [
        "seed", "test MAE", "largest error", "MAE, first 10,000", "MAE, last 10,000", "last ÷ first",
        "largest error in 100,000",
    ]  # fmt: skip
    return Section([Table("integral_exact", columns, rows)], {one.seed: one.parts.tolist() for one in found})


def clock(study: Study) -> Section:
    """Returns the section on the time of integral_exact beside that of the plain script of integral_accumulated."""
    rounds = exact.clock(1 if study.quick else 3, 0.01 if study.quick else 1.0)
    rows = [
        [
            str(turn), f"{one['plain']:.1f} s", f"{one['exact']:.1f} s", f"{one['command']:.1f} s",
            f"{one['exact'] / one['plain']:.2f}", f"{one['command'] / one['plain']:.2f}",
        ]
        for turn, one in enumerate(rounds, 1)
    ]  # fmt: skip
    rows.append([
        "median", *(f"{median([one[name] for one in rounds]):.1f} s" for name in ("plain", "exact", "command")),
        *(f"{median([one[name] / one['plain'] for one in rounds]):.2f}" for name in ("exact", "command")),
    ])  # fmt: skip
    note = "A busy machine slows both, though not always alike: the ratios count, and their spread."
    columns = [
        "turn", "plain script of integral_accumulated", "integral_exact, training", "the whole command",
        "training ÷ plain", "command ÷ plain",
    ]  # fmt: skip
    return Section([Table("Time, one thread, in turn", columns, rows, note)], rounds)


def _heat(study: Study, title: str, grid: list[list[Arm]], rows: Sequence[int], columns: Sequence[str]) -> Heat:
    errors = np.array([[study.result(arm).typical for arm in row] for row in grid])
    marks = {(r, c): MARKS[arm] for r, row in enumerate(grid) for c, arm in enumerate(row) if arm in MARKS}
    return Heat(title, errors, [f"{row:,}" for row in rows], columns, marks)


def _changes(study: Study, base: Arm, changed: Sequence[tuple[str, Arm]]) -> list[list[str]]:
    return [[f"… {text} ({arm.rate:g})", _error(study, arm), str(study.ratio(arm, base))] for text, arm in changed]


def _error(study: Study, arm: Arm) -> str:
    """Returns the geometric mean of the test errors and its interval, for people."""
    found = study.result(arm).interval
    return f"{number(found.value)} [{number(found.low)}, {number(found.high)}]"


def _section(study: Study, tables: list[Table]) -> Section:
    raw = {arm.name: result.test.tolist() for arm, result in study.known.items()}
    return Section(tables, raw)


SECTIONS: dict[str, Callable[[Study], Section]] = {
    "effects": effects,
    "step-size": step_sizes,
    "window": reach,
    "streams": parallel,
    "carry": carried,
    "updates": longer,
    "forgetting": forgets,
    "exact": solved,
    "clock": clock,
}
