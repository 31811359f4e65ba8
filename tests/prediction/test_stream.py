"""``python -m seqrnn.predict --stream``: rows from standard input, each answered at once."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from predicting import Command, MakeRun

from seqrnn import predict
from seqrnn.prediction import lines
from seqrnn.prediction.lines import LineParser, read_lines
from seqrnn.results import Run
from seqrnn.rundir.lock import Lock

INTEGRAL = ("task=integral", "model=gru", "model.hidden_size=8")
MNIST = ("task=mnist", "model=lstm", "model.hidden_size=8")


def forward(run: Run, inputs: list[float]) -> NDArray[Any]:
    network = run.network()
    with torch.inference_mode():
        outputs, _ = network(torch.tensor(inputs).view(-1, 1, 1), network.initial_state(1))
    return outputs.flatten().numpy()


def outputs(answers: list[Any]) -> list[float]:
    return [answer["output"] for answer in answers]


@pytest.mark.covering(1)
@pytest.mark.parametrize("kernel", ["auto", "torch"])
@pytest.mark.parametrize(
    "text",
    [
        "[0.1]\n[0.2]\n[0.3]\n",
        '{"input": 0.1}\n\n{"input": 0.2, "target": null}\n{"input": 0.3}',
        "input\n0.1\n0.2\n0.3\n",
        "target,input\r\n,0.1\r\n1,0.2\r\n\r\n,0.3\r\n",
        "\ufeffinput\n0.1\n[0.2]\n0.3",
    ],
    ids=["lists", "mappings", "csv", "csv_from_windows", "mixed"],
)
def test_each_row_is_answered_as_by_the_whole_sequence(
    text: str, kernel: str, trained: MakeRun, command: Command
) -> None:
    run = trained(*INTEGRAL, f"kernel={kernel}")
    result = command(run.directory, "--stream", stdin=text)
    assert (result.code, result.err) == (0, "")
    assert [answer["timestep"] for answer in result.answers] == [0, 1, 2]
    np.testing.assert_allclose(outputs(result.answers), forward(run, [0.1, 0.2, 0.3]), atol=1e-6)


def test_classes_are_answered_with_their_probabilities(trained: MakeRun, command: Command) -> None:
    run = trained(*MNIST)
    pixels = np.random.default_rng(0).random((28, 28), np.float32)
    text = "".join(json.dumps(row) + "\n" for row in pixels.tolist())
    answers = command(run.directory, "--stream", stdin=text).answers
    network = run.network()
    with torch.inference_mode():
        logits, _ = network(torch.from_numpy(pixels)[:, None], network.initial_state(1))
    shares = [answer["probabilities"] for answer in answers]
    np.testing.assert_allclose(shares, logits[:, 0].softmax(dim=1), atol=1e-6)
    assert [answer["predicted"] for answer in answers] == logits[:, 0].argmax(dim=1).tolist()


def test_a_malformed_line_is_answered_by_its_number_and_changes_nothing(trained: MakeRun, command: Command) -> None:
    run = trained(*INTEGRAL)
    bad = {
        b'{"inptu": 1}': "'inptu' is no column; did you mean input?",
        b"[1, 2]": "a list of 2 values; should be 1: input",
        b"{": "no JSON: Expecting property name",
        b"[" * 5000: "no JSON: ",
        b"\xff[1]": "byte 0 is not UTF-8",
        b'{"input": true}': "input: True should be a finite number",
        b'{"input": NaN}': "input: nan should be a finite number",
        b'{"input": "1_000"}': "input: '1_000' should be a finite number",
        b'{"input": "1e999"}': "input: '1e999' should be a finite number",
        b'{"input": 1e300}': "input 0 is inf; should be a finite number",
        b'{"input": 1e300, "start": true}': "input 0 is inf; should be a finite number",
        b'{"input": 1' + b"0" * 400 + b"}": "should be a finite number",
        b'{"input": [1]}': "input: [1] should be a finite number",
        b'{"target": 1}': "input is missing",
        b"{}": "has neither inputs nor true values",
        b'{"input": 1, "start": "perhaps"}': "start: 'perhaps' should be true or false",
        b'{"input": 1, "timestep": 1}': "timestep: only with true values",
        b"no header": "'no header' is no column",
        b"input,input": "a header that names a column twice",
        b'"open': "no CSV: ",
        b"[0." + b"1" * lines.MOST_LINE_BYTES + b"]": "the line has more than 1,048,576 bytes",
    }
    result = command(run.directory, "--stream", stdin=b"[0.1]\n" + b"\n".join(bad) + b"\n[0.2]\ninput\n0.3\nx\n1,2\n")
    assert result.code == 0
    first, *errors, second, third, text, cells = result.answers
    assert [error["line"] for error in errors] == list(range(2, len(bad) + 2))
    for error, problem in zip(errors, bad.values(), strict=True):
        assert problem in error["error"]
    np.testing.assert_allclose(outputs([first, second, third]), forward(run, [0.1, 0.2, 0.3]), atol=1e-6)
    assert text == {"line": len(bad) + 5, "error": "input: 'x' should be a finite number"}
    assert cells == {"line": len(bad) + 6, "error": "2 cells; should be 1: input"}


def test_a_sequence_begins_where_the_rows_say_so(trained: MakeRun, command: Command) -> None:
    run = trained(*INTEGRAL)
    for text in (
        '[0.1]\n[0.2]\n{"input": 0.1, "start": true}\n{"input": 0.2, "start": false}\n',
        "input,start\n0.1,true\n0.2,0\n0.1,1\n0.2,\n",
    ):
        answers = command(run.directory, "--stream", stdin=text).answers
        assert [answer["timestep"] for answer in answers] == [0, 1, 0, 1]
        assert outputs(answers[:2]) == outputs(answers[2:])


def test_a_stream_continues_from_its_file(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    run = trained(*INTEGRAL)
    whole = command(run.directory, "--stream", stdin="[0.1]\n[0.2]\n[0.3]\n").answers
    first = command(run.directory, "--stream", "--state", "s", stdin="[0.1]\n[0.2]\n")
    assert first.err == ""
    second = command(run.directory, "--stream", "--state", "s", stdin="[0.3]\n")
    assert second.err == "continues from s\n"
    assert first.answers + second.answers == whole

    other = trained("task=integral", "model=lstm", "model.hidden_size=8")
    command(other.directory, "--stream", "--state", "s", stdin="[0.1]").refused(
        "error: s: the state of another network: model is lstm, and was gru"
    )
    (tmp_path / "s").write_bytes(b"damaged")
    command(run.directory, "--stream", "--state", "s", stdin="[0.1]").refused("error: s: damaged")
    assert (tmp_path / "s").read_bytes() == b"damaged"
    command(run.directory, "--stream", "--state", "none/s", stdin="[0.1]").refused("none/s: cannot be written")
    assert not (tmp_path / "none").exists()


def test_only_one_process_at_a_time_continues_a_state(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    run, lock = trained(*INTEGRAL), Lock(tmp_path / ".s.lock", tmp_path / ".s.owner")
    lock.acquire()
    command(run.directory, "--stream", "--state", "s", stdin="[0.1]").refused(
        f"error: --state s: is being written by process {os.getpid()} on"
    )
    assert not (tmp_path / "s").exists()
    lock.release()
    assert command(run.directory, "--stream", "--state", "s", stdin="[0.1]").code == 0
    assert not (tmp_path / ".s.owner").exists()


class Terminal(io.RawIOBase):
    """Standard input that gives some lines, then does something, and then stays open without a line."""

    def __init__(self, content: bytes, then: Any) -> None:
        self.content, self.then = content, then

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.content:
            count = min(len(buffer), len(self.content))
            buffer[:count], self.content = self.content[:count], self.content[count:]
            return count
        self.then()
        threading.Event().wait(60)
        raise AssertionError("the stream should have ended")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_stream_and_its_state_is_kept(
    number: int,
    code: int,
    trained: MakeRun,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = trained(*INTEGRAL)
    terminal = Terminal(b"[0.1]\n[0.2]\n", lambda: os.kill(os.getpid(), number))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(terminal)))
    with pytest.raises(SystemExit) as stop:
        predict.main([str(run.directory), "--stream", "--state", str(tmp_path / "s")])
    out, err = capfd.readouterr()
    assert (stop.value.code, err, len(out.splitlines())) == (code, "", 2)
    rest = command(run.directory, "--stream", "--state", "s", stdin="[0.3]\n").answers
    np.testing.assert_allclose(outputs(rest), forward(run, [0.1, 0.2, 0.3])[2:], atol=1e-6)


def test_a_stream_ends_when_nobody_reads_it(
    trained: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run, (reader, writer) = trained(*INTEGRAL), os.pipe()

    def rows() -> Iterator[bytes]:
        yield b"[0.1]\n"
        os.close(reader)
        yield b"[0.2]\n"
        raise AssertionError("the stream should have ended")

    class Rows(io.RawIOBase):
        def __init__(self) -> None:
            self.rows = rows()

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            row = next(self.rows)
            buffer[: len(row)] = row
            return len(row)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Rows())))
    with os.fdopen(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        predict.main([str(run.directory), "--stream", "--state", str(tmp_path / "s")])
    assert capfd.readouterr() == ("", "")
    predictor = run.stream()
    predictor.restore(tmp_path / "s")
    assert predictor.timesteps == 2


def test_an_answer_comes_before_the_next_row_is_read(
    trained: MakeRun, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run, seen = trained(*INTEGRAL), []

    class Rows(io.RawIOBase):
        count = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            seen.append(capfd.readouterr().out)
            self.count += 1
            buffer[:6] = b"[0.1]\n"
            return 6 if self.count <= 3 else 0

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Rows())))
    predict.main([str(run.directory), "--stream"])
    assert [len(text.splitlines()) for text in seen] == [0, 1, 1, 1]


def test_lines_are_numbered_and_long_ones_are_skipped_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_LINE_BYTES", 8)
    stream = io.BytesIO(b"1234567\n12345678\n" + b"x" * 50 + b"\n\n1234567")
    assert list(read_lines(stream)) == [(1, b"1234567\n"), (2, None), (3, None), (4, b"\n"), (5, b"1234567")]


def test_cells_with_commas_are_quoted() -> None:
    parser = LineParser(lambda names: None, [])
    assert parser.parse(b'"a,b", c ,d\n') is None
    assert parser.parse(b'"1,5","say ""x""",\n') == {"a,b": "1,5", "c": 'say "x"', "d": None}


def test_empty_cells_at_the_ends_of_a_line_are_cells() -> None:
    parser = LineParser(lambda names: None, [], "\t")
    assert parser.parse(b"a\tb\tc\r\n") is None
    assert parser.parse(b"1\t\t\r\n") == {"a": "1", "b": None, "c": None}
    assert parser.parse(b"\t\t 2\n") == {"a": None, "b": None, "c": "2"}
    assert parser.parse(b"\t\t\n") == dict.fromkeys("abc")
    assert parser.parse(b" \r\n") is None
