"""Every mistake a user can make: one line that names it, the right exit code, no traceback, nothing lost."""

from __future__ import annotations

import errno
import io
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from helpers import Finished
from mnist_files import write_mnist

import seqrnn
from seqrnn import composition, errors, registry
from seqrnn.cli import reporting
from seqrnn.errors import ConfigError
from seqrnn.rundir.reader import RunReader
from seqrnn.rundir.writer import RunWriter

Command = Callable[..., Finished]

MISTAKES = {
    "misspelt group choice": (["task=integra"], ["task=integra: no such task; did you mean integral?"]),
    "misspelt group": (["modle=gru"], ["modle: no such key; did you mean model?"]),
    "misspelt key": (["model.hiden_size=3"], ["model.hiden_size: no such key; did you mean model.hidden_size?"]),
    "key of another choice": (["model.forget_bias=1"], ["model.forget_bias: no such key"]),
    "added key": (["+model.hiden=3"], ["model.hiden: no such setting; did you mean hidden_size?"]),
    "a key without its group": (["lr=0.1"], ["lr: no such key; did you mean optimizer.lr?"]),
    "a misspelt key without its group": (["hiden_size=3"], ["did you mean model.hidden_size?"]),
    "a key of several groups": (["name=x"], ["did you mean model.name or optimizer.name or task.name?"]),
    "a sweep without -m": (
        ["model=gru,lstm", "seed=1,2"],
        ["model=gru,lstm: several values are a sweep, which is asked for with -m", "a list is written seed=[1,2]"],
    ),
    "a letter that wants quotes": (
        ["hydra.run.dir=dür"],
        ["hydra.run.dir=dür: hydra reads such a value only in quotes; write \"hydra.run.dir='dür'\""],
    ),
    "misspelt experiment": (["experiment=sine_onlin"], ["did you mean sine_online?"]),
    "misspelt key of hydra's": (["hydra.run.dri=x"], ["hydra.run.dri: no such key; did you mean hydra.run.dir?"]),
    "misspelt key of a launcher": (
        ["task=sine", "hydra/launcher=slurm", "hydra.launcher.memgb=1", "-m", "seed=1,2"],
        ["hydra.launcher.memgb: no such key; did you mean hydra.launcher.mem_gb?"],
    ),
    "misspelt launcher": (
        ["-m", "hydra/launcher=slrum"],
        ["hydra/launcher=slrum: no such hydra/launcher; did you mean slurm? (there are: basic, joblib, population"],
    ),
    "misspelt choice in a sweep": (["-m", "model=gru,lstmm"], ["model=lstmm: no such model; did you mean lstm?"]),
    "no override at all": (["task"], ["task"]),
    "wrong type": (["model.hidden_size=many"], ["model.hidden_size=many: should be a valid integer"]),
    "float for int": (["model.hidden_size=2.5"], ["model.hidden_size=2.5"]),
    "int for bool": (["schedule.carry=2"], ["schedule.carry=2: should be a valid boolean"]),
    "hidden_size=0": (["model.hidden_size=0"], ["model.hidden_size=0: should be greater than or equal to 1"]),
    "window=-1": (["schedule.window=-1"], ["schedule.window=-1: should be greater than or equal to 1"]),
    "NaN rate": (["optimizer.lr=nan"], ["optimizer.lr=nan: should be a finite number"]),
    "negative rate": (["optimizer.lr=-1"], ["optimizer.lr=-1: should be greater than 0"]),
    "noise without bounds": (["task.jitter=1e300"], ["task.jitter=1e+300: should be less than or equal to 1000000"]),
    "a rate beyond single precision": (
        ["optimizer.lr=1e30"],
        ["optimizer.lr=1e+30: should be less than or equal to"],
    ),
    "unknown choice of a setting": (["model.head=mpl"], ["model.head=mpl: should be 'linear' or 'mlp'"]),
    "unknown device": (["device=tpu"], ["device=tpu: should be 'auto', 'cpu' or 'cuda'"]),
    "update_every no multiple": (
        ["schedule.window=10", "schedule.stride=5", "schedule.update_every=12"],
        ["schedule.update_every=12 is not a multiple of the stride of 5 timesteps; the nearest that is: 10"],
    ),
    "stride longer than window": (
        ["schedule.window=5", "schedule.stride=6"],
        ["schedule.stride=6 is longer than schedule.window=5"],
    ),
    "update_every without a stride": (
        ["schedule=full", "schedule.update_every=10"],
        ["schedule.update_every=10 needs schedule.window or schedule.stride"],
    ),
    "warm-up before a one-cycle": (
        ["schedule.warmup=5", "schedule.lr_decay=onecycle"],
        ["schedule.warmup=5: schedule.lr_decay=onecycle warms up by itself"],
    ),
    "a choice of null": (
        ["model=null"],
        [
            "model=null: should be one of cornn, elman, esn, gru, indrnn, irnn, lnlstm, lru, lstm, mingru, minlstm, "
            "rnn, tcn"
        ],
    ),
    "a list for a name": (["model.name=[gru]"], ["model.name=['gru']: no such model"]),
    "no task at all": (["~task"], ["task: none is chosen"]),
    "plugins that are no list": (["plugins=null"], ["plugins=None: should be a list of module names"]),
    "a setting of several types": (["threads=auto2"], ["threads=auto2: should be", "or should be 'auto'"]),
    "a nested key": (["suggested.epochs=0", "schedule.epochs=1"], ["suggested.epochs=0: should be greater"]),
    "a nested value": (["model.init_std.head.weight=big"], ["model.init_std.head.weight=big: should be"]),
    "a seed beyond all bounds": (["seed=18446744073709551616"], ["seed=18446744073709551616: should be less"]),
    "a layer that does not fit": (["model.hidden_size=1000000"], ["model.hidden_size=1000000", "make the network"]),
    "layers that do not fit": (
        ["model=lstm", "model.hidden_size=20000", "model.num_layers=1000"],
        ["model.hidden_size=20000 model.num_layers=1000: 3,19", "of memory are available; make the network smaller"],
    ),
    "a directory that is none": (["--config-dir", "nowhere"], ["nowhere"]),
    "no matrix to be orthogonal": (
        ["model=indrnn", "model.recurrent_init=orthogonal"],
        ["model.recurrent_init=orthogonal: ", "set model.recurrent_init=default"],
    ),
    "limits of initial weights the wrong way round": (
        ["model=indrnn", "model.init_least=3"],
        ["model.init_least=3: must not be above model.init_most=2.0"],
    ),
    "dropout with one layer": (["model.dropout=0.5"], ["model.dropout=0.5", "model.num_layers=2"]),
    "nesterov without momentum": (["optimizer=sgd", "optimizer.nesterov=true"], ["optimizer.momentum=0.9"]),
    "limits the wrong way round": (["task.low=2"], ["task.low=2: must be below task.high=1.0"]),
    "bf16 on a cpu": (["device=cpu", "precision=bf16-mixed"], ["precision=bf16-mixed: needs device=cuda"]),
    "unknown parameter": (
        ["model.init_std.hed.weight=1.0"],
        ["model.init_std.hed.weight: no such parameter; did you mean head.weight?"],
    ),
    "missing plugin": (["plugins=[no_such_module]"], ["plugins=no_such_module: cannot be imported"]),
    "broken interpolation": (["schedule.epochs=${nowhere}"], ["nowhere"]),
    "data that is not there": (
        ["task=mnist", "task.download=false", "task.data_dir=elsewhere"],
        ["elsewhere/MNIST/raw", "task.data_dir=DIR", "task.download=true"],
    ),
    "several at once": (
        ["model.hidden_size=0", "schedule.window=-1", "optimizer.lr=nan", "seed=-1", "task.gain=inf"],
        ["model.hidden_size=0", "schedule.window=-1", "optimizer.lr=nan", "seed=-1", "task.gain=inf"],
    ),
    "several that do not compose": (
        ["task=integra", "model.hiden_size=3", "schedul=full"],
        ["did you mean integral?", "did you mean model.hidden_size?", "did you mean schedule?"],
    ),
}


@pytest.mark.first(20)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_and_nothing_is_written(mistake: str, command: Command) -> None:
    overrides, expected = MISTAKES[mistake]
    finished = command(*overrides)
    assert finished.exit_code == 2, finished.err
    for text in expected:
        assert text in finished.err
    assert "Traceback" not in finished.err
    assert not finished.directory.exists()


@pytest.mark.long
def test_flags_may_stand_anywhere_in_the_line(command: Command) -> None:
    swept = command(
        "task=sine",
        "smoke=true",
        "-m",
        "model=elman,gru",
        "plots.draw=false",
        "hydra.sweep.dir=sweep",
        "sweep.jobs=1",
    )
    assert swept.exit_code == 0, swept.err
    assert len([*Path("sweep").glob("*/summary.json")]) == 2
    shown = command("task=sine", "--cfg", "job", "seed=7", "--resolve")
    assert "seed: 7" in shown.out
    assert "sequence" in command("task=integral", "--cfg", "job", "--package", "task", "seed=1").out


def test_help_explains_the_keys(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    shown = command("--help", "task=sine", "model=lstm")
    assert shown.exit_code == 0
    lines = {" ".join(line.split()) for line in shown.out.splitlines()}
    kernel = "auto | torch | compiled (the recurrence, and whole updates, in compiled code; CPU)"
    assert "seed: 0 # initial weights, generated data, shuffling, dropout" in lines
    assert "lr_decay: cosine # constant | cosine | onecycle | step | plateau" in lines
    assert f"kernel: auto # {kernel}" in lines
    explained = [line for line in lines if ": " in line and " # " in line]
    for key in ("forget_bias", "points", "beta1", "window", "update_every", "factor"):
        assert any(line.startswith(f"{key}: ") for line in explained), key
    assert "did you mean model.hidden_size?" in command("--help", "model.hiden_size=3").err


def test_the_version_is_that_of_seqrnn(command: Command) -> None:
    shown = command("task=sine", "--version")
    assert shown.exit_code == 0
    versions = f"torch {version('torch')}, Python {platform.python_version()}"
    assert shown.out == f"seqrnn {seqrnn.__version__} ({versions})\n"


def test_initial_weights_are_set_by_the_name_of_a_parameter(command: Command) -> None:
    line = ("model.init_std.head.weight=0.5", "model.init_std={head.bias: 2}")
    assert command("task=sine", "smoke=true", "plots.draw=false", *line).exit_code == 0
    assert RunReader(Path("run")).config()["model"]["init_std"] == {"head.weight": 0.5, "head.bias": 2}
    repeated = command("experiment=sine_online", "smoke=true", "model.init_std.cell.W.0=0.1", "hydra.run.dir=second")
    assert repeated.exit_code == 0, repeated.err
    assert RunReader(Path("second")).config()["model"]["init_std"] == {"cell.W.0": 0.1, "head.weight": 0.3}


def test_hydras_own_log_does_not_stand_in_the_way(command: Command) -> None:
    finished = command("task=sine", "smoke=true", "plots.draw=false", "hydra/job_logging=default")
    assert finished.exit_code == 0, finished.err
    assert "finished after" in Path("run", "train.log").read_text()


@pytest.mark.long
def test_a_second_sweep_of_hydras_own_into_a_directory_is_refused_or_resumed(command: Command) -> None:
    sweep = (
        "-m",
        "hydra/sweeper=basic",
        "task=sine",
        "smoke=true",
        "plots.draw=false",
        "seed=1,2",
        "hydra.sweep.dir=sweep",
    )
    assert command(*sweep).exit_code == 0
    kept = {path: path.read_bytes() for path in Path("sweep").rglob("*") if path.is_file()}
    second = command(*sweep)
    assert second.exit_code == 2
    for job in (0, 1):
        assert f"job {job}: " in second.err
    assert second.err.count("resume=auto") == 2
    assert {path: path.read_bytes() for path in Path("sweep").rglob("*") if path.is_file()} == kept
    resumed = command(*sweep, "resume=auto")
    assert resumed.exit_code == 0, resumed.err
    assert resumed.out.count("nothing to do") == 2


SOUND = (
    "loss = 'mse'; kind = 'regression'; input_size = output_size = 1\n"
    "    metrics = train = validation = baselines = test = lambda self: 0\n"
    "    def __init__(self, seed, *, length: int): ..."
)
PLUGIN_MISTAKES = {
    "a setting without a type": (
        "def __init__(self, seed, *, length): ...",
        "slips.Slip: its setting length has no type; give it one, such as length: Count",
    ),
    "a type that is none": (
        "def __init__(self, seed, *, length: 'Cuont'): ...",
        "slips.Slip: the types of its settings cannot be read: name 'Cuont' is not defined",
    ),
    "a type that is not of YAML": (
        "def __init__(self, seed, *, length: Strange): ...",
        "slips.Slip: a type of its settings is none of YAML's",
    ),
    "no seed": (
        "def __init__(self, *, length: int): self.length = length",
        "task.name=slip: slips.Slip cannot be built: too many positional arguments; before * it takes the seed",
    ),
    "neither kind nor test": (
        "loss = 'mse'; input_size = output_size = 1; metrics = train = validation = baselines = lambda self: 0\n"
        "    def __init__(self, seed, *, length: int): ...",
        "task.name=slip: slips.Slip has no kind, test(); seqrnn.tasks.protocol.Task documents what a task has",
    ),
    "a strange kind and loss": (
        "loss = 'mes'; kind = 'guess'; input_size = output_size = 1\n"
        "    metrics = train = validation = baselines = test = lambda self: 0\n"
        "    def __init__(self, seed, *, length: int): ...",
        "task.name=slip: slips.Slip: its kind is 'guess'; should be 'regression' or 'classification'",
    ),
    "a picture that there is not": (
        "from seqrnn.rundir.formats import Picture; picture = Picture(name='pionts')\n    " + SOUND,
        "slips.Slip: its picture is 'pionts'; should be a seqrnn.rundir.formats.Picture with the name of one for a "
        "regression: sequences, points, pieces",
    ),
    "a picture of the other kind": (
        "from seqrnn.rundir.formats import Picture; picture = Picture(name='text')\n    " + SOUND,
        "slips.Slip: its picture is 'text'; should be",
    ),
    "a picture by its name alone": (
        "picture = 'points'\n    " + SOUND,
        "slips.Slip: its picture is 'points'; should",
    ),
}


@pytest.mark.parametrize("mistake", PLUGIN_MISTAKES)
def test_a_mistake_of_a_plugin_is_named(
    mistake: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, expected = PLUGIN_MISTAKES[mistake]
    (tmp_path / "slips.py").write_text(
        "from seqrnn import register\nclass Strange: ...\n@register('task', 'slip')\nclass Slip:\n    " + body + "\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slips", raising=False)
    monkeypatch.setattr(registry, "_components", {kind: dict(known) for kind, known in registry._components.items()})
    finished = command("plugins=[slips]", "task=sine", "~task", "+task={name: slip, length: 3}", "seed=-1")
    assert finished.exit_code == 2
    assert expected in finished.err
    assert "seed=-1" in finished.err  # with everything else
    assert "Traceback" not in finished.err


def test_a_plugins_cell_and_optimizer_are_checked_too(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slips.py").write_text(
        "from torch import nn\nfrom seqrnn import register\n"
        "@register('model', 'slip')\nclass Slip(nn.Module):\n"
        "    def __init__(self, inputs, *, hidden_size: int): super().__init__()\n"
        "@register('optimizer', 'slip')\ndef slip(parameters, *, lr: float): return lr\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slips", raising=False)
    monkeypatch.setattr(registry, "_components", {kind: dict(known) for kind, known in registry._components.items()})
    words = ("model.name=slip", "~model.num_layers", "~model.dropout", "optimizer.name=slip", "~optimizer.beta1")
    more = ("~optimizer.beta2", "~optimizer.eps", "~optimizer.weight_decay", "~optimizer.amsgrad")
    finished = command("plugins=[slips]", "task=sine", "model=gru", *words, *more)
    assert finished.exit_code == 2
    assert "model.name=slip: slips.Slip has no output_size, initial_state(), recurrent_weights()" in finished.err
    assert "optimizer.name=slip: it is built as a builtins.float" in finished.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_where_there_is_none_says_what_to_do(command: Command) -> None:
    finished = command("device=cuda")
    assert finished.exit_code == 2
    assert finished.err.startswith("error: device=cuda: no usable NVIDIA GPU")
    assert "use device=cpu or device=auto" in finished.err
    assert finished.err.count("\n") == 1


def test_an_output_directory_that_cannot_be_made_is_named(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finished = command("task=sine", "smoke=true", f"hydra.run.dir={tmp_path}/file/run")
    assert finished.exit_code == 2
    assert f"{tmp_path}/file" in finished.err
    assert "Traceback" not in finished.err


def test_a_directory_that_another_process_writes_is_not_called_one_that_holds_a_run(tmp_path: Path) -> None:
    running = RunWriter(tmp_path / "run", {}, [])
    with pytest.raises(ConfigError, match=rf"run: is being written by process {os.getpid()} on"):
        RunWriter(tmp_path / "run", {}, [])  # as with resume=auto, in the moment before there is a config
    running.close()
    with pytest.raises(ConfigError, match="already holds a run"):
        RunWriter(tmp_path / "run", {}, [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_the_place_of_an_error_is_its_file_or_an_output_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    full, elsewhere = OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "Input/output error")
    assert errors.place_of(OSError(errno.ENOSPC, "No space left on device", "a.csv")) == "a.csv"
    assert errors.place_of(full) == ""
    assert "run: No space left" in str(errors.explained(full, Path("run")))
    with Path("/dev/full").open("w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        output.write("a line")
        assert errors.place_of(full) == "standard output"
        assert errors.place_of(elsewhere) == ""
        assert str(errors.explained(full, Path("run"))).startswith("standard output: No space left on device;")
        with pytest.raises(OSError, match="No space left"):
            output.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_an_output_without_a_buffer_that_is_full_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = io.TextIOWrapper(io.FileIO("/dev/full", "w"), write_through=True)  # as with PYTHONUNBUFFERED=1
    monkeypatch.setattr(sys, "stdout", output)
    with pytest.raises(SystemExit) as ended:
        reporting.run(lambda: print("a line"))
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: standard output: No space left on device;")


def test_an_interval_that_is_searched_is_not_blamed_for_another_key() -> None:
    lines = ["-m", "task=sincos", "optimizer.lr=tag(log, interval(1e-4, 1e-1))", "epochs=5"]
    (problem,) = composition.explain(ValueError(), lines).problems
    assert problem.startswith("epochs: no such key; did you mean schedule.epochs")


def test_a_run_directory_is_never_overwritten(command: Command) -> None:
    assert command("task=sine", "smoke=true").exit_code == 0
    kept = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    finished = command("task=sine", "smoke=true", "seed=1")
    assert finished.exit_code == 2
    assert "already holds a run" in finished.err
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == kept


def test_files_that_are_not_of_a_run_are_not_overwritten_either(command: Command) -> None:
    Path("run").mkdir()
    Path("run", "metrics.csv").write_text("precious")
    finished = command("task=sine", "smoke=true", "logger=tensorboard")
    assert finished.exit_code == 2
    assert [path.name for path in Path("run").iterdir()] == ["metrics.csv"]
    assert Path("run", "metrics.csv").read_text() == "precious"


def test_a_claim_that_fails_does_not_stand_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(ConfigError, match="No space left"):
            RunWriter(tmp_path / "run", {"seed": 0}, [])
    RunWriter(tmp_path / "run", {"seed": 0}, []).close()


def test_an_error_leaves_no_empty_directories(command: Command, tmp_path: Path) -> None:
    finished = command("model.hidden_size=0", "hydra.run.dir=outputs/a/b")
    assert finished.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_broken_config_file_is_named(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine" / "task").mkdir(parents=True)
    (tmp_path / "mine" / "task" / "broken.yaml").write_text("task: {name: [")
    finished = command("--config-dir", str(tmp_path / "mine"), "task=broken")
    assert finished.exit_code == 2
    assert "broken.yaml" in finished.err
    assert "Traceback" not in finished.err


def test_a_plugin_that_ends_the_process_is_named_instead(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaves.py").write_text("import sys; sys.exit(7)")
    monkeypatch.syspath_prepend(tmp_path)
    finished = command("plugins=[leaves]")
    assert finished.exit_code == 2
    assert "plugins=leaves: cannot be imported: SystemExit: 7" in finished.err


def test_damaged_test_data_is_found_before_training(command: Command, tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").write_bytes(b"")
    finished = command("task=mnist", f"task.data_dir={tmp_path}", "task.validation_images=2", "task.download=false")
    assert finished.exit_code == 2
    assert "t10k-labels-idx1-ubyte" in finished.err
    assert not finished.directory.exists()


@pytest.mark.long
def test_a_terminal_that_lacks_letters_is_served(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "seqrnn.train", "task=sine", "smoke=true", "plots.draw=false"],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "hidden units" in result.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.long
@pytest.mark.parametrize("ends_with", ["pass", "raise UserError('why')"])
def test_output_into_a_full_disk_is_an_error_with_an_exit_code(ends_with: str) -> None:
    program = (
        "from seqrnn.cli import reporting\nfrom seqrnn.errors import UserError\n"
        f"def command():\n    print('result')\n    {ends_with}\nreporting.run(command)"
    )
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "", "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: why" if "why" in ends_with else "error: standard output: No space left on device")


@pytest.mark.skipif(os.name != "posix", reason="a shell closes the streams")
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_command_whose_output_is_closed_does_its_work(closed: str, tmp_path: Path) -> None:
    line = "-m seqrnn.train task=sincos model=elman smoke=true plots.draw=false hydra.run.dir=run"
    ended = subprocess.run(
        f"exec {sys.executable} {line} {closed}",
        shell=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert seqrnn.load(tmp_path / "run").summary["status"] == "finished"


@pytest.mark.skipif(sys.platform == "win32", reason="a current directory cannot be removed there")
def test_a_current_directory_that_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SystemExit) as ended:
        reporting.run(Path.cwd)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: the current directory: No such file or directory; ")


def test_divergence_keeps_everything_up_to_there(command: Command) -> None:
    finished = command(
        "task=sine", "model=rnn", "model.nonlinearity=relu", "optimizer=sgd", "optimizer.lr=1e18",
        "schedule.clip_norm=null", "schedule.lr_decay=constant", "log_every=1",
    )  # fmt: skip
    assert finished.exit_code == 3
    assert "diverged" in finished.out
    assert "Traceback" not in finished.err
    summary = finished.summary
    assert summary["status"] == "diverged"
    assert f"update {summary['updates'] + 1} " in summary["problems"][0]
    assert summary["test"] == {}
    written = {path.name for path in finished.directory.iterdir()}
    assert {"metrics.csv", "metrics.jsonl", "weights.safetensors", "loss.png", "config.yaml"} <= written


@pytest.mark.long
def test_an_interrupted_run_is_complete_as_far_as_it_got(tmp_path: Path) -> None:
    line = ("experiment=integral_forgetting", "task.train_timesteps=100000000", "hydra.run.dir=run", "device=cpu")
    process = subprocess.Popen(
        [sys.executable, "-m", "seqrnn.train", *line],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        # A test run in the background ignores Ctrl-C, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    metrics = tmp_path / "run" / "metrics.jsonl"
    try:
        while not (metrics.is_file() and len(metrics.read_text().splitlines()) >= 2):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    summary = Finished(130, out, err, tmp_path / "run").summary
    assert summary["status"] == "interrupted"
    assert summary["updates"] > 0
    assert (tmp_path / "run" / "loss.png").is_file()


def test_help_is_as_wide_as_the_terminal(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = command("--help", "task=csv").out.splitlines()
        assert max(map(len, lines)) <= columns
        first = next(number for number, line in enumerate(lines) if line.startswith("  known: []"))
        assert "# the column, or a list of those" in lines[first]
        assert lines[first + 1].startswith(f"{'':30}  # ")
