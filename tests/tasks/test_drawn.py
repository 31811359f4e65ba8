"""Tasks whose sequences are drawn at random: their data, compared with slow formulas, and their baselines, with their
analytic scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU64, make_network, make_task, whole
from scipy.integrate import solve_ivp

from seqrnn import evaluation
from seqrnn.components import build_components
from seqrnn.errors import ConfigError
from seqrnn.losses import LOSSES
from seqrnn.settings import composed_values
from seqrnn.tasks import letters, narma
from seqrnn.tasks.protocol import Chunk
from seqrnn.training import fit

DRAWN = ["add_memory", "adding", "copy", "delayed_echo", "letters", "lorenz", "mackey_glass", "memory_capacity",
         "narma", "parity", "xor"]  # fmt: skip


def drawn(name: str, sequences: int = 200, seed: int = 0, **changes: Any) -> Chunk:
    """Returns all test sequences of a task: inputs (T, B, I)."""
    return whole(make_task(name, seed, test_sequences=sequences, **changes).test()[0])


def scores(name: str, sequences: int = 400, **changes: Any) -> dict[str, dict[str, float]]:
    """Returns the scores of the baselines on test data."""
    task = make_task(name, test_sequences=sequences, **changes)
    return evaluation.score_baselines_on(task.test(), task, LOSSES[task.loss], CPU64)


@pytest.mark.parametrize("name", DRAWN)
def test_data_depends_on_seed_epoch_and_position_alone(name: str) -> None:
    task, repeated = make_task(name), make_task(name)
    backwards = [whole(batch) for batch in reversed(repeated.train(2, 5))][::-1]
    forwards = [whole(batch) for batch in task.train(2, 5)]
    assert len(forwards) == len(backwards) == -(-len(task.train(0, 1)) // 5)
    for one, other in zip(forwards, backwards, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
    others = [whole(make_task(name, seed).train(epoch, 5)[n]) for seed, epoch, n in [(1, 2, 0), (0, 3, 0), (0, 2, 1)]]
    others += [whole(task.validation()[0]), whole(task.test()[0])]
    streams = [stream for chunk in [forwards[0], *others] for stream in chunk.inputs.unbind(dim=1)]
    assert len({tuple(stream.flatten().tolist()) for stream in streams}) == len(streams)


@pytest.mark.parametrize("name", DRAWN)
def test_the_last_batch_has_the_sequences_that_are_left(name: str) -> None:
    batches = make_task(name, train_sequences=7).train(0, 3)
    assert [batch.streams for batch in batches] == [3, 3, 1]
    known = [(batch.streams, count) for batch, count in batches.distinct()]
    assert known == [(3, 2), (1, 1)]


@pytest.mark.parametrize("name", sorted(set(DRAWN) - {"adding", "copy"}))
def test_new_sequences_have_any_length(name: str) -> None:
    chunk = whole(make_task(name).rollout(100, 2))
    assert chunk.inputs.shape[:2] == (100, 2)
    assert chunk.valid[-1].all()


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("name", DRAWN)
def test_what_fits_into_no_memory_is_refused(name: str, split: str) -> None:
    with pytest.raises(ConfigError, match=rf"task\.{split}_sequences=1000000000: "):
        make_task(name, **{f"{split}_sequences": 10**9})
    with pytest.raises(ConfigError, match=r"schedule\.streams=1000000000: "):
        make_task(name, train_sequences=10**9).train(0, 10**9)


# --- Data against slow formulas


def test_adding_marks_two_numbers_and_wants_their_sum_at_the_end() -> None:
    chunk = drawn("adding", 5000, length=9)
    numbers, marks = chunk.inputs.unbind(dim=-1)
    assert marks.sum(dim=0).eq(2).all()
    for stream in range(20):
        marked = [
            float(number) for number, mark in zip(numbers[:, stream], marks[:, stream], strict=True) if mark == 1
        ]
        assert float(chunk.targets[-1, stream, 0]) == pytest.approx(sum(marked), abs=1e-12)
    assert chunk.valid[-1].all()
    assert not chunk.valid[:-1].any()
    expected = 2 / 9  # of a timestep to be marked; 36 pairs are equally frequent
    assert (marks.mean(dim=1) - expected).abs().max() < 4 * math.sqrt(expected * (1 - expected) / 5000)
    pairs = (marks.T @ torch.arange(9.0, dtype=torch.float64), marks.T @ torch.arange(9.0, dtype=torch.float64) ** 2)
    assert len(set(zip(*(values.tolist() for values in pairs), strict=True))) == 36


def test_copy_is_symbols_blanks_a_delimiter_blanks_and_the_symbols_again() -> None:
    chunk = drawn("copy", 3, delay=6, symbols=4, alphabet=8)
    assert chunk.inputs.shape == (6 + 2 * 4, 3, 10)
    for stream in range(3):
        read = chunk.inputs[:, stream].argmax(dim=-1).tolist()
        symbols = read[:4]
        assert all(symbol < 8 for symbol in symbols)
        assert read == [*symbols, *[8] * 5, 9, *[8] * 4]
        assert chunk.targets[:, stream].tolist() == [8] * 10 + symbols
    assert chunk.inputs.sum(dim=-1).eq(1).all()


def test_add_memory_is_a_bit_of_the_probability_that_two_past_inputs_give() -> None:
    chunk = drawn("add_memory", 2000, first=2, second=5, length=20)
    x = chunk.inputs[..., 0]
    assert chunk.valid[:, 0].tolist() == [t >= 5 for t in range(20)]
    for near in (0, 1):
        for far in (0, 1):
            chosen = chunk.targets[5:][(x[3:-2] == near) & (x[:-5] == far)].double()
            expected = 0.5 + 0.5 * near - 0.25 * far
            bound = 4 * math.sqrt(expected * (1 - expected) / len(chosen))
            assert abs(float(chosen.mean()) - expected) <= bound


def test_memory_capacity_has_the_inputs_of_the_past_for_targets() -> None:
    chunk = drawn("memory_capacity", 2, delays=4, length=12)
    for t in range(4, 12):
        for k in range(1, 5):
            assert torch.equal(chunk.targets[t, :, k - 1], chunk.inputs[t - k, :, 0])
    assert chunk.valid[:, 0].tolist() == [t >= 4 for t in range(12)]


def test_memory_capacity_is_the_sum_of_squared_correlations() -> None:
    rng = np.random.default_rng(0)
    targets, noise = rng.standard_normal((500, 5)), rng.standard_normal((500, 5))
    outputs = 3 - targets * [1, 2, 0, 1, -1] + noise * [0, 1, 1, 2, 0]
    expected = sum(np.corrcoef(outputs[:, k], targets[:, k])[0, 1] ** 2 for k in range(5))
    found = make_task("memory_capacity").metrics(outputs, targets)["memory_capacity"]
    assert found == pytest.approx(expected)


def test_echo_repeats_the_symbol_of_some_timesteps_ago() -> None:
    chunk = drawn("delayed_echo", 2, delay=3, symbols=5, length=12)
    assert torch.equal(chunk.targets[3:], chunk.inputs[:-3].argmax(dim=-1))
    assert chunk.valid[:, 0].tolist() == [t >= 3 for t in range(12)]


def test_every_third_bit_is_the_exclusive_or_of_the_two_before_it() -> None:
    chunk = drawn("xor", 50, length=30)
    bits = torch.cat([chunk.inputs[:, :, 0], chunk.targets[-1:, :, 0]]).int()
    assert torch.equal(chunk.targets[:-1], chunk.inputs[1:])
    for group in range(10):
        first, second, third = bits[3 * group : 3 * group + 3]
        assert torch.equal(third, first ^ second)


@pytest.mark.parametrize("bits", [1, 3, None])
def test_parity_is_that_of_the_latest_bits(bits: int | None) -> None:
    chunk = drawn("parity", 5, bits=bits, length=15)
    x = chunk.inputs[..., 0].int()
    for t in range(15):
        begin = 0 if bits is None else max(0, t + 1 - bits)
        assert torch.equal(chunk.targets[t], x[begin : t + 1].sum(dim=0) % 2)
    assert chunk.valid[:, 0].tolist() == [t >= (bits or 1) - 1 for t in range(15)]


def test_letters_are_syllables_in_features() -> None:
    chunk = drawn("letters", 300, length=30)
    assert torch.equal(chunk.targets[:-1], chunk.inputs[1:])
    counts = dict.fromkeys(letters.SYLLABLES, 0)
    for stream in range(300):
        rows = [tuple(int(bit) for bit in row) for row in chunk.inputs[:, stream].tolist()]
        text = "".join(letters.LETTERS[letters.FEATURES.index(row)] for row in rows)
        begin = 0
        while begin < len(text):
            (syllable,) = (one for one in letters.SYLLABLES if one.startswith(text[begin]))
            assert syllable.startswith(text[begin : begin + len(syllable)])
            counts[syllable] += begin == 0
            begin += len(syllable)
    assert all(abs(count - 100) < 4 * math.sqrt(300 * 2 / 9) for count in counts.values())


def test_narma_is_the_equation_of_its_source() -> None:
    chunk = drawn("narma", 2, length=40)
    for stream in range(2):
        u, y = chunk.inputs[:, stream, 0].tolist(), [0.0]
        for t in range(40):
            y_past = [y[t - i] if t >= i else 0.0 for i in range(10)]
            u_past = u[t - 9] if t >= 9 else 0.0
            y.append(0.3 * y[t] + 0.05 * y[t] * sum(y_past) + 1.5 * u_past * u[t] + 0.1)
        np.testing.assert_allclose(chunk.targets[:, stream, 0], y[1:], rtol=1e-12)


def test_narma_draws_a_sequence_that_grows_without_bound_again(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = float(drawn("narma", 50, length=40).targets.amax(dim=0).median())  # half of the sequences pass it
    monkeypatch.setattr(narma, "HIGHEST", limit)
    chunk = drawn("narma", 50, length=40)
    assert chunk.targets.max() <= limit
    expected = narma.narma(chunk.inputs[..., 0].numpy())
    np.testing.assert_allclose(chunk.targets[..., 0], expected, rtol=1e-12)


def test_narma_refuses_sequences_so_long_that_drawing_them_would_not_end() -> None:
    most = r"of narma .* grow without bound.*; make them shorter: 100,000 timesteps at most"
    with pytest.raises(ConfigError, match=rf"task\.length=1000000: almost all sequences {most}"):
        make_task("narma", length=1_000_000)
    batch = make_task("narma", length=40).rollout(10_000_000, 1)
    with pytest.raises(ConfigError, match=rf"timesteps=10000000: almost all sequences {most}"):
        batch.read(0, 1)
    assert narma.LONGEST == 100_000


@pytest.mark.parametrize(("tau", "steps"), [(17, 10), (30, 4), (2, 3)])
def test_mackey_glass_is_the_runge_kutta_method_step_by_step(tau: int, steps: int) -> None:
    """The method as textbooks have it, with a list for the past."""
    task, h, n = make_task("mackey_glass", tau=tau, steps=steps), 1 / steps, tau * steps

    def slope(x: float, past: float) -> float:
        return 0.2 * past / (1 + past**10) - 0.1 * x

    xs, slopes = [1.2], []  # at step 0, 1, …
    for step in range(60 * steps):
        start, end = (1.2 if k - n <= 0 else xs[k - n] for k in (step, step + 1))
        middle = 1.2
        if step >= n:
            past = slopes[step - n + 1] if step - n + 1 < len(slopes) else math.nan
            middle = (start + end) / 2 + h / 8 * (slopes[step - n] - past)
        x = xs[-1]
        slopes.append(slope(x, start))
        second = slope(x + h / 2 * slopes[-1], middle)
        third = slope(x + h / 2 * second, middle)
        fourth = slope(x + h * third, end)
        xs.append(x + h / 6 * (slopes[-1] + 2 * second + 2 * third + fourth))
    found = task.solve(np.array([1.2, 1.1]), 61)
    np.testing.assert_allclose(found[:, 0], xs[::steps], rtol=1e-10)
    assert not np.allclose(found[:, 1], found[:, 0])


def test_mackey_glass_converges_with_the_fourth_power_of_the_step() -> None:
    start = np.array([1.2])
    exact = make_task("mackey_glass", steps=80).solve(start, 60)
    coarse, fine = (np.abs(make_task("mackey_glass", steps=s).solve(start, 60) - exact).max() for s in (5, 10))
    assert fine < 1e-6
    assert 8 < coarse / fine < 32  # 16 in the limit


def test_mackey_glass_has_the_value_to_come_for_target() -> None:
    chunk = drawn("mackey_glass", 3, length=60, horizon=7)
    assert torch.equal(chunk.targets[:-7], chunk.inputs[7:])
    assert chunk.inputs.min() > -0.9
    assert chunk.inputs.max() < 0.5  # the attractor lies between 0.2 and 1.4


def test_lorenz_is_the_flow_that_another_solver_finds() -> None:
    task = make_task("lorenz", interval=0.05, steps=10)
    start = np.array([[1.0, -3.0], [2.0, 1.0], [20.0, 25.0]])
    found = task.solve(start, 41)
    for stream in range(2):
        expected = solve_ivp(
            lambda _, s: [10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]],
            (0, 2), start[:, stream], t_eval=np.linspace(0, 2, 41), rtol=1e-10, atol=1e-10,
        ).y  # fmt: skip
        np.testing.assert_allclose(found[:, :, stream].T, expected, atol=2e-3)


def test_lorenz_has_the_value_to_come_for_target_and_its_fixed_points_are_one() -> None:
    chunk = drawn("lorenz", 3, length=60, horizon=7)
    assert torch.equal(chunk.targets[:-7], chunk.inputs[7:])
    point = make_task("lorenz").solve(np.array([[72**0.5], [72**0.5], [27.0]]), 3)
    np.testing.assert_allclose(point[-1], point[0], rtol=1e-12)


def test_a_step_that_is_too_large_for_the_lorenz_equations_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"task.interval=0.5, task.steps=5: a step of 0.1 time units"):
        make_task("lorenz", interval=0.5, steps=5)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("add_memory", {"first": 8, "second": 8}, "task.first=8, task.second=8"),
        ("add_memory", {"second": 40}, "task.second=40, task.length=40"),
        ("delayed_echo", {"delay": 40}, "task.delay=40"),
        ("memory_capacity", {"delays": 40}, "task.delays=40"),
        ("parity", {"bits": 41}, "task.bits=41"),
    ],
)
def test_a_delay_that_no_sequence_holds_is_refused(name: str, changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_task(name, **changes)


# --- Baselines against their analytic scores


def entropy(probability: float) -> float:
    return -sum(p * math.log(p) for p in (probability, 1 - probability) if p > 0)


ONE, BOTH = (entropy(7 / 8) + entropy(3 / 8)) / 2, (entropy(1 / 2) + entropy(1 / 4) + entropy(3 / 4)) / 4


@pytest.mark.parametrize(
    ("name", "changes", "baseline", "metric", "expected", "bound"),
    [
        # Bounds are four standard errors: of the mean of squared errors, or of log probabilities.
        ("adding", {}, "constant (1)", "mse", 1 / 6, 4 * math.sqrt(7 / 180 / 2000)),
        ("adding", {}, "last marked number + 1/2", "mse", 1 / 12, 4 * math.sqrt(1 / 180 / 2000)),
        ("copy", {"delay": 20, "symbols": 10}, "no memory of the symbols", "loss", 10 * math.log(8) / 40, 1e-9),
        ("copy", {"delay": 1000, "symbols": 10}, "no memory of the symbols", "loss", 10 * math.log(8) / 1020, 1e-9),
        ("copy", {"delay": 20, "symbols": 10}, "no memory of the symbols", "accuracy_symbols", 1 / 8, 0.01),
        ("add_memory", {}, "constant (no dependency)", "loss", entropy(5 / 8), 0.01),
        ("add_memory", {}, "first dependency", "loss", ONE, 0.01),
        ("add_memory", {}, "floor (both dependencies)", "loss", BOTH, 0.01),
        ("memory_capacity", {}, "constant (0)", "mse", 1 / 12, 0.001),
        ("memory_capacity", {}, "input itself", "mse", 1 / 6, 0.002),
        ("memory_capacity", {}, "input itself", "memory_capacity", 0.0, 0.005),
        ("delayed_echo", {"symbols": 3}, "constant (equal probabilities)", "loss", math.log(3), 1e-9),
        ("xor", {"length": 30}, "constant (1/2)", "mse", 1 / 4, 1e-12),
        ("xor", {"length": 30}, "floor (exclusive or known)", "mse", 1 / 6, 1e-12),
        ("parity", {}, "constant (equal probabilities)", "loss", math.log(2), 1e-9),
        ("letters", {"length": 300}, "constant (mean)", "mse", 46 / 243, 0.002),
        ("letters", {"length": 300}, "floor (syllables known)", "mse", 2 / 81, 0.001),
        ("narma", {"length": 200}, "constant (mean)", "nrmse", 1.0, 0.01),
        ("mackey_glass", {"length": 200}, "constant (mean)", "nrmse", 1.0, 0.01),
        ("lorenz", {"length": 200, "washout": 200}, "constant (0)", "nrmse", 1.0, 0.01),
    ],
)
def test_a_baseline_has_its_analytic_score(
    name: str, changes: dict[str, int], baseline: str, metric: str, expected: float, bound: float
) -> None:
    few = name in ("mackey_glass", "lorenz") or changes.get("delay") == 1000
    found = scores(name, 50 if few else 2000 if name in ("adding", "copy") else 400, **changes)
    assert abs(found[baseline][metric] - expected) <= bound


def test_the_published_steps_of_the_add_task() -> None:
    assert [round(value, 3) for value in (entropy(5 / 8), ONE, BOTH)] == [0.662, 0.519, 0.454]


def test_the_linear_baseline_is_the_least_squares_solution_on_past_inputs() -> None:
    task = make_task("narma", length=80)
    sample, chunk = task.data.sample(), whole(task.test()[0])

    def columns(chunk: Chunk) -> np.ndarray[Any, Any]:
        x = chunk.inputs[..., 0].numpy()
        rows = [
            [*(x[t - k, b] if t >= k else 0.0 for k in range(30)), 1.0] for t in range(80) for b in range(x.shape[1])
        ]
        return np.array(rows)

    weights = np.linalg.lstsq(columns(sample), sample.targets.flatten().numpy(), rcond=None)[0]
    found = task.baselines()["linear (30 inputs)"](chunk)
    np.testing.assert_allclose(found.flatten(), columns(chunk) @ weights, rtol=1e-6)


# --- Training


@pytest.mark.long
@pytest.mark.parametrize(
    ("overrides", "metric", "worst"),
    [
        (["task=adding"], "mse", 0.02),
        (["task=add_memory"], "loss", 0.47),
        (["task=copy"], "loss", 0.1),
        (["task=mackey_glass"], "nrmse", 0.3),
        (["task=memory_capacity"], "mse", 0.01),
        (["task=delayed_echo"], "loss", 0.05),
        (["task=xor"], "mse", 0.18),
        (["task=parity"], "loss", 0.05),
        (["task=letters"], "mse", 0.03),
        (["task=narma"], "nrmse", 0.15),
        (["task=lorenz"], "nrmse", 0.3),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_defaults_of_a_task_train_a_network_that_beats_its_baselines(
    overrides: list[str], metric: str, worst: float
) -> None:
    run = build_components(composed_values([*overrides, "device=cpu", "threads=1"]))
    fit(run)
    predictions = evaluation.predict(run.network, run.task.test(), run.context)
    found = evaluation.score(predictions, run.task, run.loss)[metric]
    baselines = evaluation.score_baselines(predictions, run.task, run.loss)
    assert found < worst
    assert found < 0.9 * min(one[metric] for name, one in baselines.items() if not name.startswith("floor"))
    assert all(found > 0.99 * one[metric] for name, one in baselines.items() if name.startswith("floor"))


def test_networks_of_all_tasks_have_the_sizes_of_their_data() -> None:
    for name in DRAWN:
        task = make_task(name)
        network = make_network("elman", task.input_size, task.output_size)
        predictions = evaluation.predict(network, task.validation(), CPU64)
        assert predictions.outputs.shape[-1] == task.output_size
