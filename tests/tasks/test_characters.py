"""task=characters: the parts of a text, its classes, scores and trivial predictors by hand, and bad files."""

from __future__ import annotations

import gzip
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import seqrnn
from seqrnn import registry
from seqrnn.errors import ConfigError, DataError
from seqrnn.plots import picture
from seqrnn.plots.arrays import TEXT, checked
from seqrnn.plots.facts import Facts
from seqrnn.tasks.characters import Characters

SETTINGS = {
    "name": "characters",
    "path": None,
    "synthetic": True,
    "encoding": "utf-8",
    "validation": 0.1,
    "test": 0.2,
}
TEXT_OF_KNIGHTS = "the knights who say ni demand a sacrifice; " * 60


def make(path: Path | None = None, **changes: Any) -> Characters:
    task = registry.build(
        "task", {**SETTINGS, "validation": 0.1, "test": 0.2, "path": path and str(path), **changes}, 0
    )
    assert isinstance(task, Characters)
    return task


def write(folder: Path, text: str, name: str = "text.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def read_back(task: Characters, chunk: Any) -> list[tuple[str, str]]:
    """Returns what each stream reads and predicts where it counts, as texts."""
    names = [*task.text.vocabulary, "?"]
    found = []
    for stream in range(chunk.valid.shape[1]):
        valid = chunk.valid[:, stream]
        inputs, targets = chunk.inputs[valid, stream].argmax(dim=-1), chunk.targets[valid, stream]
        found.append(("".join(names[n] for n in inputs), "".join(names[n] for n in targets)))
    return found


def test_every_character_is_predicted_once_in_one_part_from_the_one_before_it(tmp_path: Path) -> None:
    text = "".join(chr(97 + n * n % 26) for n in range(5003))
    task = make(write(tmp_path, text))
    begins = task.text.begins
    assert begins == (0, 5003 - 500 - 1001, 5003 - 1001, 5003)
    for batches, begin, end in ((task.validation(), *begins[1:3]), (task.test(), *begins[2:4])):
        chunk = batches[0].read(0, batches[0].timesteps)
        parts = read_back(task, chunk)
        assert "".join(targets for _, targets in parts) == text[begin:end]
        assert "".join(inputs for inputs, _ in parts) == text[begin - 1 : end - 1]
        assert chunk.starts[0].all()
        assert not chunk.starts[1:].any()
        assert bool(chunk.valid[128].all())
        assert not chunk.valid[:128].any()
    (batch,) = task.train(0, 7)
    streams = read_back(task, batch.read(0, batch.timesteps))
    joined = "".join(targets for _, targets in streams)
    assert joined == text[1 : 1 + len(joined)]
    assert begins[1] - 1 - len(joined) < 7
    pieces = torch.cat([batch.read(n, min(n + 13, batch.timesteps)).inputs for n in range(0, batch.timesteps, 13)])
    assert pieces.equal(batch.read(0, batch.timesteps).inputs)


def test_a_long_test_is_cut_into_stretches_that_begin_with_what_comes_before_them(tmp_path: Path) -> None:
    text = "".join(chr(97 + (n // 7) % 26) for n in range(20_000))
    task = make(write(tmp_path, text))
    (batch,) = task.test()
    assert batch.streams == 4
    chunk = batch.read(0, batch.timesteps)
    assert "".join(targets for _, targets in read_back(task, chunk)) == text[16_000:]
    before = "".join(task.text.vocabulary[n] for n in chunk.inputs[:128, 2].argmax(dim=-1))
    assert before == text[18_000 - 129 : 18_000 - 1]


def test_characters_that_training_does_not_have_are_a_class_and_counted(tmp_path: Path) -> None:
    task = make(write(tmp_path, TEXT_OF_KNIGHTS + "ÄÖÜ→ä"))
    assert task.text.vocabulary == "".join(sorted(set(TEXT_OF_KNIGHTS)))
    assert task.output_size == len(set(TEXT_OF_KNIGHTS)) + 1
    assert task.classes[-1] == "unknown"
    assert "␣" in task.classes
    assert task.notes == ["test: 5 of 517 characters are not in the training part; they are of the class unknown"]
    (batch,) = task.test()
    assert batch.read(0, batch.timesteps).targets[-5:, 0].tolist() == [task.output_size - 1] * 5


def test_nothing_of_a_run_depends_on_the_held_out_parts(tmp_path: Path) -> None:
    one = make(write(tmp_path, TEXT_OF_KNIGHTS))
    cut = one.text.begins[1]
    other = make(write(tmp_path, TEXT_OF_KNIGHTS[:cut] + "z§" * ((len(TEXT_OF_KNIGHTS) - cut) // 2), "other.txt"))
    assert one.text.vocabulary == other.text.vocabulary
    (a,), (b,) = one.train(0, 3), other.train(0, 3)
    first, second = a.read(0, a.timesteps), b.read(0, b.timesteps)
    assert first.inputs.equal(second.inputs)
    assert first.targets.equal(second.targets)
    (batch,) = one.validation()
    chunk = batch.read(0, 40)
    for name, predictor in one.baselines().items():
        assert predictor(chunk).equal(other.baselines()[name](chunk)), name


def test_scores_are_bits_and_perplexity_of_the_cross_entropy() -> None:
    task = make()
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]], np.float32))
    found = task.metrics(logits, np.array([0, 1]))
    assert found["bpc"] == pytest.approx((1 + 3) / 2)
    assert found["perplexity"] == pytest.approx(4)
    assert found["accuracy"] == 0.5


def test_the_trivial_predictors_are_counts_of_the_training_part(tmp_path: Path) -> None:
    task = make(write(tmp_path, TEXT_OF_KNIGHTS))
    training = TEXT_OF_KNIGHTS[: task.text.begins[1]]
    names = [*task.text.vocabulary, "unknown"]
    counts, pairs = Counter(training), Counter(pairwise(training))
    (batch,) = task.test()
    chunk = batch.read(0, batch.timesteps)
    unigram, bigram = (task.baselines()[name](chunk).exp() for name in ("unigram", "bigram"))
    prior = {name: (counts[name] + 1) / (len(training) + len(names)) for name in names}
    assert unigram[0, 0].tolist() == pytest.approx([prior[name] for name in names])
    totals = Counter(training[:-1])

    def smoothed(strength: float, first: str, second: str, without: int = 0) -> float:
        return (pairs[first, second] - without + strength * prior[second]) / (totals[first] - without + strength)

    def left_out(strength: float) -> float:
        return sum(math.log(smoothed(strength, *pair, without=1)) for pair in pairwise(training))

    best = max((0.1, 1.0, 3.0, 10.0, 30.0, 100.0), key=left_out)
    for timestep in (0, 5, 300):
        present = names[int(chunk.inputs[timestep, 0].argmax())]
        assert bigram[timestep, 0].tolist() == pytest.approx([smoothed(best, present, name) for name in names])
    assert bigram.sum(dim=-1).min() == pytest.approx(1)


def test_line_ends_marks_and_compression_are_no_characters(tmp_path: Path) -> None:
    lines = "a line of text\n" * 100
    plain = make(write(tmp_path, lines)).text
    windows = make(write(tmp_path, "\ufeff" + lines.replace("\n", "\r\n"), "windows.txt")).text
    packed = tmp_path / "packed.txt.gz"
    packed.write_bytes(gzip.compress(lines.encode()))
    utf16 = tmp_path / "utf16.txt"
    utf16.write_bytes(lines.encode("utf-16"))
    for other in (windows, make(packed).text, make(utf16, encoding="utf-16").text):
        assert other.vocabulary == plain.vocabulary
        assert np.array_equal(other.codes, plain.codes)


@pytest.mark.parametrize(
    ("content", "changes", "expected"),
    [
        (b"a b c" * 10, {}, "has 50 characters; 1,000 are the least"),
        (b"abc\xff" * 1000, {}, "byte 3: this is no text in utf-8"),
        (b"abc\0" * 1000, {}, "character 3 is NUL"),
        (b"abcd" * 1000, {"encoding": "klingon"}, "task.encoding=klingon: there is no such encoding"),
        (b"abcd" * 1000, {"encoding": "rot13"}, "task.encoding=rot13: there is no such encoding"),
        (b"abcd" * 1000, {"validation": 0.5, "test": 0.4999}, "leave 0 of 4,000 characters for"),
        ("".join(map(chr, range(0x4E00, 0x9000))).encode(), {}, "different characters; 4,095 are the most"),
    ],
)
def test_a_bad_text_is_named(content: bytes, changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=expected):
        _ = make(path, **changes).text


def test_a_missing_path_and_impossible_shares_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"task\.path=null: which file"):
        _ = make(synthetic=False).input_size
    with pytest.raises(DataError, match="there is no such file"):
        _ = make(tmp_path / "none.txt").text
    with pytest.raises(ConfigError, match="less than 1 together"):
        make(validation=0.5, test=0.5)


def test_a_text_is_written_by_the_probabilities_that_the_network_outputs() -> None:
    task = make()
    fed: list[int] = []

    def certain(inputs: Any) -> Any:  # the next class follows for certain
        fed.append(int(inputs.argmax()))
        return np.where(np.arange(task.output_size) == (fed[-1] + 1) % task.output_size, 100.0, 0.0)

    written = task.generate_with(certain)["sample"]
    begin = task.text.begins[2]
    assert fed[:128] == task.text.codes[begin - 128 : begin].tolist()
    assert fed[128:] == written.tolist()
    assert np.all(np.diff(np.append(fed[127], written)) % task.output_size == 1)

    def fair(inputs: Any) -> Any:
        return np.log(np.where(np.arange(task.output_size) < 2, 0.5, 1e-30))

    drawn = task.generate_with(fair)["sample"]
    assert drawn.max() == 1
    assert 0.4 < drawn.mean() < 0.6
    assert np.array_equal(drawn, task.generate_with(fair)["sample"])


@pytest.mark.filterwarnings("error")  # of letters that the font does not have
def test_a_run_has_scores_a_text_and_a_picture(tmp_path: Path) -> None:
    path = write(tmp_path, "日本語 🙂 $x_1$ \u202e \x1b[31m, and some words to learn from. " * 40)
    run = seqrnn.run(
        ["task=characters", f"task.path={path}", "smoke=true", "threads=1", "device=cpu", "plots.draw=false",
         f"hydra.run.dir={tmp_path / 'run'}"], quiet=True,
    )  # fmt: skip
    test, arrays = run.summary["test"], run.predictions
    assert test["bpc"] == pytest.approx(test["loss"] / math.log(2))
    assert test["perplexity"] == pytest.approx(math.exp(test["loss"]))
    logits = arrays["outputs"].astype(np.float64)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    by_hand = -logits[np.arange(len(logits)), arrays["targets"]].mean()
    assert test["loss"] == pytest.approx(by_hand, rel=1e-6)
    assert len(arrays["sequences"]) == len(arrays["targets"])
    assert len(arrays["sample"]) == 600
    facts = Facts(run.config, run.summary)
    figure = picture.find(facts).draw(checked(dict(arrays), TEXT, path, classes=True), facts)
    figure.canvas.draw()
