"""``python -m seqrnn.predict``: predictions at once, on drawn data and on files."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from predicting import Command, MakeRun

from seqrnn import predict
from seqrnn.prediction import outputs
from seqrnn.tasks.mnist import synthetic_digits

INTEGRAL = ("task=integral", "model=gru", "model.hidden_size=8")
MNIST = ("task=mnist", "model=lstm", "model.hidden_size=8")


@pytest.mark.parametrize(
    "overrides",
    [("task=sine", "model=elman"), ("task=sincos", "model=rnn"), INTEGRAL, MNIST],
    ids=lambda overrides: overrides[0],
)
def test_without_data_the_runs_own_test_is_repeated(
    overrides: tuple[str, ...], trained: MakeRun, command: Command
) -> None:
    run = trained(*overrides)
    result = command(run.directory)
    assert (result.code, result.err) == (0, "")
    assert "test data of seed 0" in result.out
    for name, scores in {run.summary["model"]: run.summary["test"], **run.summary["baselines"]}.items():
        row = next(line for line in result.out.splitlines() if line.startswith(name))
        assert f"{scores['loss']:.4g}" in row
    assert all(len(line) <= 80 for line in result.out.splitlines())


def test_new_sequences_are_as_long_as_asked_for_and_depend_on_the_seed(
    trained: MakeRun, command: Command, tmp_path: Path
) -> None:
    run = trained(*INTEGRAL)
    frames = []
    for number, arguments in enumerate([("--seed", 7), ("--seed", 7), ("--seed", 8), ()]):
        result = command(run.directory, "--timesteps", 3000, "--out", f"{number}.csv", *arguments)
        assert (result.code, result.err) == (0, "")
        assert f"{number}.csv (3,000 rows)" in result.out
        frames.append(pandas.read_csv(tmp_path / f"{number}.csv"))
    first, second, other, own = frames
    assert list(first.columns) == ["sequence", "timestep", "input", "target", "output"]
    assert first.equals(second)
    assert not first["input"].equals(other["input"])
    assert not first["input"].equals(own["input"])
    inputs = torch.from_numpy(first["input"].to_numpy(np.float32)).view(-1, 1, 1)
    network = run.network()
    with torch.inference_mode():
        expected, _ = network(inputs, network.initial_state(1))
    np.testing.assert_allclose(first["output"], expected[:, 0, 0], atol=1e-6)


def test_the_three_formats_hold_the_same(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    for suffix in ("csv", "parquet", "npz"):
        assert command(trained(*INTEGRAL).directory, "--timesteps", 50, "--out", f"x.{suffix}").code == 0
    table, frame = pandas.read_csv(tmp_path / "x.csv"), pandas.read_parquet(tmp_path / "x.parquet")
    with np.load(tmp_path / "x.npz") as arrays:
        assert list(arrays) == list(frame.columns) == list(table.columns)
        for name in frame:
            assert np.array_equal(arrays[name], frame[name])
            np.testing.assert_allclose(table[name], frame[name], rtol=1e-6)


def test_classes_are_written_with_their_probabilities(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    run = trained(*MNIST)
    assert command(run.directory, "--out", "x.csv").code == 0
    frame = pandas.read_csv(tmp_path / "x.csv")
    shares = frame.filter(like="probability_").to_numpy()
    logits, targets = run.predictions["outputs"], run.predictions["targets"]
    np.testing.assert_allclose(shares, torch.from_numpy(logits).softmax(dim=1), atol=1e-6)
    assert np.array_equal(frame["target"], targets)
    assert np.array_equal(frame["predicted"], logits.argmax(axis=1))


def test_images_are_read_from_every_kind_of_file(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    run = trained(*MNIST)
    pixels, labels = synthetic_digits(5, 4)
    (tmp_path / "digits").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "digits" / f"{number}.png")
    Image.fromarray(pixels[0]).convert("RGB").save(tmp_path / "colour.png")
    Image.fromarray(pixels[0]).save(tmp_path / "grey.pgm")
    np.savez(tmp_path / "labelled.npz", images=pixels, labels=labels)
    np.savez(tmp_path / "floats.npz", images=pixels / np.float32(255))
    header = np.array([0x803, 4, 28, 28], ">u4").tobytes()
    (tmp_path / "few-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pixels.tobytes()))

    inputs = torch.from_numpy(pixels).permute(1, 0, 2).float() / 255
    network = run.network()
    with torch.inference_mode():
        logits, _ = network(inputs, network.initial_state(4))
    expected = logits[-1].softmax(dim=1).numpy()

    def shares(*paths: str) -> pandas.DataFrame:
        result = command(run.directory, "--data", *paths, "--out", "x.csv")
        assert (result.code, result.err) == (0, "")
        return pandas.read_csv("x.csv")

    for paths in (["digits"], ["floats.npz"], ["few-images-idx3-ubyte.gz"], ["labelled.npz"]):
        frame = shares(*paths)
        np.testing.assert_allclose(frame.filter(like="probability_"), expected, atol=1e-6)
        assert ("target" in frame) == (paths == ["labelled.npz"])
    frame = shares("colour.png", "grey.pgm", "digits/1.png")
    assert list(frame["sequence"]) == ["colour.png", "grey.pgm", "1.png"]
    np.testing.assert_allclose(frame.filter(like="probability_"), expected[[0, 0, 1]], atol=1e-6)

    assert "accuracy" in command(run.directory, "--data", "labelled.npz").out
    assert "mostly light" not in command(run.directory, "--data", "digits").out
    np.savez(tmp_path / "inverted.npz", images=255 - pixels)
    assert "4 of 4 images are mostly light" in command(run.directory, "--data", "inverted.npz").out
    lines = command(run.directory, "--data", "digits").out.splitlines()
    assert [line for line in lines if line.startswith("0.png")] == [
        f"0.png: {expected[0].argmax()}  (probability {expected[0].max():.3f})"
    ]


def test_files_that_are_no_images_are_refused(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    directory = trained(*MNIST).directory
    Image.fromarray(np.zeros((30, 28), np.uint8)).save(tmp_path / "tall.png")
    Image.fromarray(np.zeros((28, 28), np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "x.jpg").write_text("")
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "other.npz", digits=np.zeros(3))
    np.savez(tmp_path / "wide.npz", images=np.zeros((2, 29, 28), np.uint8))
    np.savez(tmp_path / "large.npz", images=np.full((2, 28, 28), 255.0))
    np.savez(tmp_path / "labels.npz", images=np.zeros((2, 28, 28), np.uint8), labels=np.array([1, 10]))
    for name, problem in {
        "tall.png": "has 28×30 pixels; should be 28×28",
        "deep.png": "has 16 bits per pixel; should have 8",
        "text.png": "cannot be read: cannot identify image file",
        "x.jpg": "is no image file; should end in .png, .pgm, .npz",
        "missing.png": "cannot be read: No such file",
        "empty": "this folder holds no .png and no .pgm file",
        "other.npz": "has no array named images (it has: digits)",
        "wide.npz": "images of shape (2, 29, 28); should be (N, 28, 28)",
        "large.npz": "images should be bytes (uint8), or floating point from 0 to 1",
        "labels.npz": "labels should be from 0 to 9",
    }.items():
        command(directory, "--data", name).refused(f"error: {name}: {problem}")


def test_a_wrong_command_line_is_refused(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    run, mnist = trained(*INTEGRAL).directory, trained(*MNIST).directory
    (tmp_path / "a.png").touch()
    command("nowhere").refused("nowhere: not a run directory: there is no such directory")
    command().refused("RUN_DIR")
    command(run, "--timesteps", 0).refused("--timesteps: 0: should be a whole number of at least 1")
    command(run, "--timesteps", 2**24 + 1).refused("at most 16,777,216 are predicted at once")
    command(run, "--seed", "x").refused("--seed: x: should be a whole number of at least 0")
    command(run, "--data", "a.png").refused("task=integral draws its data and reads none from files")
    command(mnist, "--timesteps", 100).refused("the sequences of task=mnist have 28 timesteps, and no other length")
    command(mnist, "--data", "a.png", "--seed", 1).refused("--seed: not with --data")
    command(run, "--stream", "--out", "x.csv").refused("--out: not with --stream")
    command(run, "--state", "s").refused("--state: only with --stream")
    command(run, "--out", "x.txt").refused("its name should end in .csv, .parquet or .npz")
    command(run, "--out", "none/x.csv").refused("there is no directory none")
    command(run, "--out", ".").refused("should end in")
    command(run, "--which", "worst").refused("invalid choice: 'worst'")


def test_a_file_that_is_read_is_never_replaced(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    pixels, labels = synthetic_digits(5, 4)
    np.savez(tmp_path / "digits.npz", images=pixels, labels=labels)
    before = (tmp_path / "digits.npz").read_bytes()
    command(trained(*MNIST).directory, "--data", "digits.npz", "--out", "./digits.npz").refused(
        "is one of the files that are read"
    )
    assert (tmp_path / "digits.npz").read_bytes() == before


def test_a_text_that_begins_like_a_formula_stays_text_in_csv(tmp_path: Path) -> None:
    names = np.array(["=1+1", "+cmd", "-2.5", "@x", "plain", "-", "a=b"], object)
    outputs.write(tmp_path / "x.csv", {"=name": names, "value": np.arange(7) - 3.0})
    assert (tmp_path / "x.csv").read_text().splitlines() == [
        "'=name,value", "'=1+1,-3.0", "'+cmd,-2.0", "-2.5,-1.0", "'@x,0.0", "plain,1.0", "'-,2.0", "a=b,3.0",
    ]  # fmt: skip
    outputs.write(tmp_path / "x.parquet", {"name": names})
    assert list(pandas.read_parquet(tmp_path / "x.parquet")["name"]) == list(names)


def test_line_breaks_of_a_text_stay_in_its_cell(tmp_path: Path) -> None:
    names = np.array(["a\rb", "c\nd", "e\r\nf", "g"], object)
    outputs.write(tmp_path / "x.csv", {"name": names, "value": np.arange(4.0)})
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [(row["name"], float(row["value"])) for row in rows] == [*zip(names, range(4), strict=True)]


def test_a_file_of_predictions_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.csv").write_text("before")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pandas.DataFrame, "to_csv", fail)
    with pytest.raises(outputs.UserError, match=r"x\.csv: cannot be written: No space left"):
        outputs.write(tmp_path / "x.csv", {"a": np.zeros(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
    assert (tmp_path / "x.csv").read_text() == "before"


def test_help_fits_80_columns() -> None:
    assert all(len(line) <= 80 for line in predict.parser().format_help().splitlines())
