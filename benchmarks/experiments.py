"""EXPERIMENTS: seconds of training of the source experiments, in plain PyTorch, seqrnn and JAX."""

from __future__ import annotations

from typing import Any

from benchmarks import implementation, machine, measure, outside, plots
from benchmarks.measure import Setup, digits, duration, median, times
from benchmarks.report import Section, Table
from benchmarks.seqrnn_implementation import UPDATES, overrides

JAX = {name: [name] for name in UPDATES} | {
    "integral_accumulated": ["integral_accumulated", "integral_accumulated_folded"]
}
GOAL = {  # plain PyTorch's seconds over seqrnn's
    "integral_accumulated": 100,
    "integral_forgetting": 60,
    "sine_online": 300,
    "sincos_lstm": 30,
    "mnist_lstm": 3,
}


def measure_section(setup: Setup) -> Section:
    experiments = [name for name in UPDATES if name != "mnist_lstm" or setup.data_dir is not None]
    raw = {experiment: measure_experiment(experiment, setup) for experiment in experiments}
    others = {recipe: measure_outside(recipe, setup) for recipe in outside.UPDATES}
    seconds = {
        experiment: {name: median(warm(rounds)) for name, rounds in implementations(runs).items()}
        for experiment, runs in raw.items()
    }
    picture = plots.experiments(seconds, setup.pictures / "benchmark_experiments.png")
    return Section([speed(raw), ratios(raw), through_torch(raw | others), quality(raw)], raw | others, [picture])


def implementations(runs: dict[str, Any]) -> dict[str, list[Any]]:
    """Returns the rounds of the implementations that are compared."""
    found = {name: runs[name] for name in ("plain", "seqrnn_torch", "seqrnn") if name in runs}
    return found | {"jax": best_jax(runs)} if has_jax(runs) else found


def measure_experiment(experiment: str, setup: Setup) -> dict[str, list[Any]]:
    """Returns each implementation's measurements, a list of rounds."""
    share = setup.share * (0.02 if setup.quick and experiment.startswith("integral") else 0.1 if setup.quick else 1.0)
    options = implementation.Options(share=share, device=setup.device, data_dir=setup.data_dir or "data")
    words = ["--share", str(share), "--device", setup.device, "--data-dir", options.data_dir]
    words += ["--repeats", "2" if setup.quick else "7"]
    runs: dict[str, Any] = {"plain": lambda: measure.implementation(f"benchmarks.plain.{experiment}", *words)}
    torch_words = [experiment, "--kernel", "torch", *words]
    runs["seqrnn_torch"] = lambda: measure.implementation("benchmarks.seqrnn_implementation", *torch_words)
    runs["seqrnn"] = lambda: measure.implementation("benchmarks.seqrnn_implementation", experiment, *words)
    runs["seqrnn_process"] = lambda: measure.seqrnn_summary(
        *overrides(experiment, options, None), "plots.draw=false"
    )[0]
    if machine.installed("jax"):
        for name in JAX[experiment]:
            runs[f"jax{name.removeprefix(experiment)}"] = lambda name=name: measure.implementation(
                f"benchmarks.jax_implementations.{name}", *words
            )
    return measure.in_turn(runs, setup.rounds)


def measure_outside(recipe: str, setup: Setup) -> dict[str, list[Any]]:
    """Returns the measurements of a recipe that only torch can compute."""
    words = ["--share", str(setup.share * (0.1 if setup.quick else 1.0)), "--device", setup.device, "--repeats", "3"]
    return measure.in_turn(
        {
            "plain": lambda: measure.implementation(f"benchmarks.plain.{recipe}", *words),
            "seqrnn_torch": lambda: measure.implementation("benchmarks.seqrnn_implementation", recipe, *words),
        },
        setup.rounds,
    )


def first(rounds: list[Any]) -> list[float]:
    """Returns seconds of the first training of each process."""
    return [found["trainings"][0]["seconds"] for found in rounds]


def warm(rounds: list[Any]) -> list[float]:
    """Returns seconds of the best training of each process after its first one, or of the only one."""
    return [min(training["seconds"] for training in found["trainings"][1:] or found["trainings"]) for found in rounds]


def best_jax(runs: dict[str, Any]) -> list[Any]:
    """Returns the rounds of the fastest implementation in JAX."""
    return min((runs[name] for name in runs if name.startswith("jax")), key=lambda rounds: median(warm(rounds)))


def has_jax(runs: dict[str, Any]) -> bool:
    return any(name.startswith("jax") for name in runs)


def speed(raw: dict[str, Any]) -> Table:
    columns = ["experiment", "updates", "plain PyTorch", "seqrnn, kernel=torch", "seqrnn", "JAX", "JAX compiles in"]
    rows = []
    for experiment, runs in raw.items():
        row = [experiment, f"{runs['plain'][0]['trainings'][0]['updates']:,}"]
        for name in ("plain", "seqrnn_torch", "seqrnn"):
            row.append(duration(median(warm(runs[name]))) if name in runs else "–")
        if has_jax(runs):
            jax = best_jax(runs)
            compiling = median([found["compile_seconds"] for found in jax])
            row += [duration(median(warm(jax))), duration(compiling)]
        else:
            row += ["–", "–"]
        rows.append(row)
    return Table(
        "Training, without evaluation, compilation and first calls", columns, rows,
        "Medians over rounds of the best training in a process. JAX trains the whole experiment in one jitted call; "
        "of two ways to write it, the faster one.",
    )  # fmt: skip


def ratios(raw: dict[str, Any]) -> Table:
    columns = [
        "experiment",
        "plain ÷ seqrnn",
        "goal",
        "JAX ÷ seqrnn",
        "fresh process: plain",
        "seqrnn",
        "plain ÷ seqrnn",
    ]
    rows = []
    for experiment, runs in raw.items():
        plain, ours = warm(runs["plain"]), warm(runs["seqrnn"])
        cold, ours_cold = first(runs["plain"]), [found["train_seconds"] for found in runs["seqrnn_process"]]
        rows.append([
            experiment,
            times(measure.ratio(plain, ours)),
            f"≥ {GOAL[experiment]}×",
            times(measure.ratio(warm(best_jax(runs)), ours)) if has_jax(runs) else "–",
            duration(median(cold)),
            duration(median(ours_cold)),
            times(measure.ratio(cold, ours_cold)),
        ])  # fmt: skip
    return Table(
        "How many times as fast", columns, rows,
        "Medians of ratios within a round. On the right, the first training of a fresh process, with all that first "
        "calls cost: for seqrnn, what summary.json says of `python -m seqrnn.train experiment=…`.",
    )  # fmt: skip


def through_torch(raw: dict[str, Any]) -> Table:
    """Returns how fast updates are that torch computes, next to the plain script, which also goes through torch."""
    rows = []
    for recipe, runs in raw.items():
        plain, ours = warm(runs["plain"]), warm(runs["seqrnn_torch"])
        updates = runs["plain"][0]["trainings"][0]["updates"]
        each = [duration(median(seconds) / updates) for seconds in (plain, ours)]
        rows.append([recipe, *each, times(measure.ratio(plain, ours))])
    return Table(
        "An update through torch", ["recipe", "plain PyTorch", "seqrnn", "plain ÷ seqrnn (goal: ≥ 1×)"], rows,
        "With kernel=torch. The last two: a cell and an optimizer from outside the package (benchmarks/outside.py).",
    )  # fmt: skip


def quality(raw: dict[str, Any]) -> Table:
    """Returns losses and scores, which show that all have learned; of one seed, so they agree only in size."""
    columns = ["experiment", "measure", "plain PyTorch", "seqrnn, kernel=torch", "seqrnn", "JAX"]
    rows = []
    for experiment, runs in raw.items():
        name = next(iter(runs["plain"][0]["trainings"][0]["test"]))
        found = implementations(runs)
        compared = [found.get(name) for name in ("plain", "seqrnn_torch", "seqrnn", "jax")]
        for what in ("training loss", f"test {name}"):
            row = [experiment if what == "training loss" else "", what]
            for rounds in compared:
                training = rounds[0]["trainings"][0] if rounds else None
                value = training and (training["train_loss"] if what == "training loss" else training["test"][name])
                row.append(f"{value:.4f}" if training else "–")
            rows.append(row)
    evaluated = raw.get("mnist_lstm")
    note = "Loss: the mean of the last tenth of the updates. Each draws its own data and weights."
    if evaluated:
        seconds = {
            name: median([found["trainings"][-1]["with_evaluation"] for found in evaluated[name]])
            for name in ("plain", "seqrnn")
        }
        note += (
            " With the evaluations that mnist_lstm makes on its way, plain PyTorch takes "
            f"{digits(seconds['plain'])} s and seqrnn {digits(seconds['seqrnn'])} s."
        )
    return Table("What they have learned", columns, rows, note)
