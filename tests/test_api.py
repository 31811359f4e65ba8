"""seqrnn from Python: run, load, and what they return."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from faults import contents
from helpers import Finished
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import seqrnn
from seqrnn import api, config_files
from seqrnn.monitor import Monitor
from seqrnn.rundir.reader import RunReader

RUN = ["task=sine", "model=gru", "model.hidden_size=5", "device=cpu", "plots.draw=false", "schedule.epochs=4"]


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with pictures, and with a better evaluation than its last one."""
    directory = tmp_path_factory.mktemp("api") / "run"
    more = ["plots.draw=true", "optimizer.lr=0.3", f"hydra.run.dir={directory}", "precision=float64"]
    seqrnn.run([*RUN, *more], quiet=True)
    return directory


def test_importing_the_package_imports_neither_torch_nor_hydra() -> None:
    script = (
        "import sys, seqrnn\n"
        "assert {'run', 'load', 'register'} <= set(dir(seqrnn))\n"
        "print(sorted({'torch', 'hydra', 'omegaconf', 'pydantic', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_everything_that_is_offered_is_there() -> None:
    for name in seqrnn.__all__:
        assert getattr(seqrnn, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = seqrnn.trian  # type: ignore[attr-defined]


def test_a_run_from_python_is_the_run_of_the_command(command: Callable[..., Finished]) -> None:
    command(*RUN)
    run = seqrnn.run([*RUN, "hydra.run.dir=from_python"], quiet=True)
    assert run.directory == Path("from_python").absolute()
    ours, theirs = contents(Path("from_python")), contents(Path("run"))
    for name in ("weights.safetensors", "predictions.npz", "metrics.jsonl", "config.yaml", "overrides.yaml"):
        assert ours[name] == theirs[name], name


def test_a_run_has_its_parts(drawn: Path) -> None:
    import pandas

    run = seqrnn.load(str(drawn))
    assert run.config["model"]["hidden_size"] == 5
    assert run.summary == json.loads((drawn / "summary.json").read_text())
    assert "model.hidden_size=5" in run.overrides
    assert isinstance(run.metrics, pandas.DataFrame)
    assert list(run.metrics["updates"])[-1] == 4
    kinds = {name: run.metrics[name].dtype.kind for name in ("timesteps", "updates", "epoch", "train_loss")}
    assert kinds == {"timesteps": "i", "updates": "i", "epoch": "i", "train_loss": "f"}
    assert run.predictions["outputs"].shape == run.predictions["targets"].shape


def test_a_network_predicts_what_the_run_did(drawn: Path) -> None:
    run = seqrnn.load(drawn)
    generator = torch.get_rng_state()
    network = run.network()
    assert torch.equal(torch.get_rng_state(), generator)
    assert not network.training
    inputs, outputs = (torch.from_numpy(run.predictions[name]) for name in ("inputs", "outputs"))
    assert inputs.dtype == torch.float64
    found, _ = network(inputs, network.initial_state(inputs.shape[1]))
    assert torch.allclose(found, outputs, rtol=0, atol=1e-12)


def test_the_best_network_is_that_of_the_best_evaluation(drawn: Path) -> None:
    run = seqrnn.load(drawn)
    for which, name in (("tested", "weights.safetensors"), ("best", "best.safetensors")):
        weights = RunReader(drawn).weights(name)
        found = run.network(which).state_dict()  # type: ignore[arg-type]
        assert all(torch.equal(found[key], weights[key]) for key in weights)
    with pytest.raises(ValueError, match="should be one of 'tested', 'best'"):
        run.network("worst")  # type: ignore[arg-type]


def test_weights_of_another_network_take_no_memory_and_are_named(drawn: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(drawn, copy)
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("hidden_size: 5", "hidden_size: 1000000"))
    with pytest.raises(seqrnn.DataError, match="has the shape"):
        seqrnn.load(copy).network()
    config.write_text(config.read_text().replace("hidden_size: 1000000", "hidden_size: 10000000000"))
    with pytest.raises(seqrnn.ConfigError, match=r"model.hidden_size=10000000000: should be less"):
        seqrnn.load(copy).network()


def test_plugins_of_a_run_are_imported_only_where_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "someones.py").write_text("open('imported', 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    run = seqrnn.run([*RUN, "plugins=[someones]"], quiet=True)
    run.network()  # whoever trains it has named them
    Path("imported").unlink()
    del sys.modules["someones"]
    with pytest.raises(seqrnn.DataError, match="asks to import someones"):
        seqrnn.load(run.directory).network()
    assert not Path("imported").exists()
    seqrnn.load(run.directory, plugins=["someones"]).network()
    assert Path("imported").exists()


def test_pictures_are_drawn_again(drawn: Path) -> None:
    (drawn / "loss.png").unlink()
    pictures = seqrnn.load(drawn).plot()
    assert drawn / "loss.png" in pictures
    assert pictures._repr_html_().count("data:image/png;base64,iVBOR") == len(pictures) >= 2


def test_a_run_shows_itself(drawn: Path) -> None:
    run = seqrnn.load(drawn)
    assert repr(run) == f"<seqrnn run: sine with gru, finished after 4 updates, {drawn}>"
    page = run._repr_html_()
    assert "<h4>sine with gru</h4>" in page
    assert all(name in page for name in run.summary["baselines"])
    assert page.count("<img ") == 2
    assert "http" not in page


def test_what_a_directory_says_is_text_on_a_page(drawn: Path, tmp_path: Path) -> None:
    import shutil

    found: set[str] = set()

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attributes: object) -> None:
            found.add(tag)

    copy = tmp_path / "<script>alert(1)<"
    shutil.copytree(drawn, copy)
    summary = json.loads((copy / "summary.json").read_text())
    summary.update(status="<script>", model="<b onclick=x>", baselines={"<iframe>": {'"><script>': 1.0}})
    summary["test"] = {"<svg/onload=x>": 1.0}
    (copy / "summary.json").write_text(json.dumps(summary))
    parser = Tags()
    parser.feed(seqrnn.load(copy)._repr_html_())
    assert found <= {"h4", "table", "thead", "tbody", "tr", "th", "td", "p", "code", "img"}


def test_pictures_are_not_read_through_links(drawn: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(drawn, copy)
    (tmp_path / "secret").write_text("secret")
    (copy / "loss.png").unlink()
    (copy / "loss.png").symlink_to(tmp_path / "secret")
    shown = seqrnn.load(copy)._repr_html_()
    assert "is a link" in shown
    assert 'alt="loss"' not in shown
    assert base64.b64encode(b"secret").decode() not in shown


def test_mistakes_are_exceptions_and_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(seqrnn.ConfigError) as caught:
        seqrnn.run(["task=integra", "model.hiden_size=3"])
    assert "did you mean integral?" in str(caught.value)
    assert "did you mean model.hidden_size?" in str(caught.value)
    with pytest.raises(seqrnn.ConfigError, match=r"model.hidden_size=0: should be greater"):
        seqrnn.run(["model.hidden_size=0"])
    with pytest.raises(seqrnn.ConfigError, match="several values are a sweep"):
        seqrnn.run(["seed=1,2"])
    with pytest.raises(seqrnn.ConfigError, match=r"^-m: seqrnn.run takes no flags .* a call for each value$"):
        seqrnn.run(["-m", "seed=1,2"])
    with pytest.raises(TypeError, match="takes a list of overrides"):
        seqrnn.run("task=sine")
    with pytest.raises(seqrnn.DataError, match="not a run directory"):
        seqrnn.load(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_divergence_is_an_exception() -> None:
    wild = ["task=sine", "model=rnn", "model.nonlinearity=relu", "optimizer=sgd", "optimizer.lr=1e18"]
    with pytest.raises(seqrnn.Diverged):
        seqrnn.run([*wild, "schedule.clip_norm=null", "plots.draw=false", "hydra.run.dir=run"], quiet=True)
    assert seqrnn.load("run").summary["status"] == "diverged"


def test_an_interruption_writes_a_checkpoint_and_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Monitor.updated

    def interrupt(monitor: Monitor, made: object) -> None:
        real(monitor, made)  # type: ignore[arg-type]
        if monitor.progress.position == 2:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Monitor, "updated", interrupt)
            with pytest.raises(KeyboardInterrupt):
                seqrnn.run([*RUN, "log_every=1", "hydra.run.dir=run"], quiet=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seqrnn.load("run").summary["status"] == "interrupted"
    resumed = seqrnn.run(["resume=run"], quiet=True)
    assert resumed.summary["status"] == "finished"
    assert resumed.summary["resumed"] == 1


def test_a_run_is_resumed_by_name(capfd: pytest.CaptureFixture[str]) -> None:
    seqrnn.run([*RUN, "hydra.run.dir=run"], quiet=True)
    run = seqrnn.run(["resume=run", "schedule.epochs=6"], quiet=True)
    assert (run.directory, run.summary["updates"]) == (Path("run"), 6)
    assert capfd.readouterr().out == ""
    seqrnn.run([*RUN, "hydra.run.dir=run", "schedule.epochs=6", "resume=auto"])
    assert "nothing to do" in capfd.readouterr().out
    with pytest.raises(seqrnn.ConfigError, match="config_dir: a run is resumed with its own config"):
        seqrnn.run(["resume=run"], config_dir=".")


def test_a_directory_of_more_configs_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "it's mine" / "model"
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text("defaults: [gru]\nhidden_size: 2\n")
    run = seqrnn.run([*RUN[:1], *RUN[3:], "model=tiny"], config_dir=folder.parent, quiet=True)
    assert run.config["model"]["hidden_size"] == 2
    with pytest.raises(seqrnn.ConfigError, match="nowhere: there is no such directory"):
        seqrnn.run(RUN, config_dir="nowhere")


def test_the_process_is_left_as_it_was() -> None:
    torch.manual_seed(7)
    expected = torch.get_rng_state(), torch.get_num_threads()
    with initialize_config_dir(config_files.config_directory(), version_base="1.3"):
        seqrnn.run([*RUN, "threads=2"], quiet=True)
        assert compose("config", ["seed=5"]).seed == 5
    assert not GlobalHydra.instance().is_initialized()
    assert torch.equal(torch.get_rng_state(), expected[0])
    assert torch.get_num_threads() == expected[1]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_is_printed_is_what_the_command_prints(capfd: pytest.CaptureFixture[str]) -> None:
    seqrnn.run([*RUN, "hydra.run.dir=run"])
    out = capfd.readouterr().out
    assert "sine with gru" in out
    assert "finished after 4 updates" in out


def test_a_full_disk_is_an_error_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "run/metrics.csv")

    monkeypatch.setattr(api, "execute", full)
    with pytest.raises(seqrnn.UserError, match=r"run/metrics.csv: No space left on device"):
        seqrnn.run(RUN)


def test_a_component_of_this_process_needs_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    from seqrnn import registry
    from seqrnn.tasks.sine import Sine

    monkeypatch.setattr(registry, "_components", {kind: dict(known) for kind, known in registry._components.items()})
    api.plugins.load_components()
    seqrnn.register("task", "wave")(type("Wave", (Sine,), {"__module__": __name__, "__qualname__": "Wave"}))
    run = seqrnn.run([*RUN, "task.name=wave"], quiet=True)
    assert run.summary["task"] == "wave"
    assert isinstance(run, seqrnn.Run)
