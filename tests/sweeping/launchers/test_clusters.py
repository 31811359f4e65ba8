"""Sweeps on clusters, which are set up on this machine, and by other launchers of hydra: the results are those of a
serial sweep, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import Finished

Command = Callable[..., Finished]
QUICK = ("-m", "experiment=sine_online", "smoke=true", "plots.draw=false", "schedule.epochs=1", "kernel=torch",
         "sweep.report=false")  # fmt: skip
# Trains for some seconds, so that it can be interrupted half-way.
LONG = ("task=integral", "schedule=online", "model=elman", "model.hidden_size=4", "kernel=torch", "device=cpu",
        "task.train_timesteps=250000", "schedule.max_updates=40000", "task.sequence_length=1000", "plots.draw=false",
        "checkpoint.every=200", "sweep.report=false")  # fmt: skip
NODE = Path(__file__).with_name("slurm_node.sh")


def weights(directory: Path) -> dict[str, bytes]:
    """The weights of the jobs of a sweep by their names."""
    return {path.parent.name: path.read_bytes() for path in directory.glob("*/weights.safetensors")}


def outcome(job: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((job / "status.json").read_text())
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


STARTED: list[subprocess.Popen[str]] = []


def start(*arguments: str) -> subprocess.Popen[str]:
    """Starts a command, which ends with the test."""
    process = subprocess.Popen(
        [sys.executable, "-m", "seqrnn.train", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    STARTED.append(process)
    return process


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.wait()


def training(directory: Path, seed: int) -> Path:
    """Waits until a job has written a checkpoint; returns its directory."""
    wait_until(lambda: bool([*directory.glob(f"*seed-{seed}_*/checkpoints/*.safetensors")]))
    return next(directory.glob(f"*seed-{seed}_*"))


def queued() -> list[str]:
    """The numbers of the jobs in Slurm's queue, in order."""
    command = ["squeue", "--noheader", "--array", "--format=%i"]
    return sorted(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.long
@pytest.mark.parametrize(
    ("package", "launcher"),
    [
        ("joblib", ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")),
        ("submitit", ("hydra/launcher=submitit_local",)),
    ],
    ids=["joblib", "submitit_local"],
)
def test_launchers_of_hydra_give_the_results_of_a_serial_sweep(
    package: str, launcher: tuple[str, ...], command: Command
) -> None:
    pytest.importorskip(package)
    assert command(*QUICK, "seed=1,2", "hydra.sweep.dir=serial", "sweep.jobs=1").exit_code == 0
    parallel = command(*QUICK, "seed=1,2", "hydra.sweep.dir=parallel", *launcher)
    assert parallel.exit_code == 0, parallel.err
    assert parallel.out.count("] finished") == 2
    assert weights(Path("serial")) == weights(Path("parallel"))


def test_what_sbatch_refuses_is_printed_once(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    for name, text in (
        ("sbatch", "echo 'sbatch: error: invalid partition' >&2; exit 1"),
        ("squeue", "exit 0"),
        ("srun", "exit 0"),
    ):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    refused = command(*QUICK, "seed=1,2", "hydra.sweep.dir=sweep", "hydra/launcher=slurm")
    assert refused.exit_code == 2
    assert (refused.out + refused.err).count("invalid partition") == 1
    assert "hydra/launcher=slurm: the jobs were refused: sbatch: error: invalid partition" in refused.err


@pytest.fixture(scope="module")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if shutil.which("slurmctld") is None or shutil.which("munged") is None or os.getuid() != 0:
        pytest.skip("needs root and Debian's slurm-wlm and munge")
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        try:
            subprocess.run(["bash", str(NODE), "start", str(folder)], check=True, timeout=60)
            yield
        finally:
            subprocess.run(["bash", str(NODE), "stop", str(folder)], check=True, timeout=60)


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ray = pytest.importorskip("ray")
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}  # else a busy machine starves workers
    context = ray.init(
        num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", object_store_memory=10**8,
        _temp_dir=str(tmp_path_factory.mktemp("r")), log_to_driver=False,
    )  # fmt: skip
    yield context.address_info["gcs_address"]
    ray.shutdown()


@pytest.mark.slurm
@pytest.mark.usefixtures("slurm_cluster")
@pytest.mark.timeout(600)
def test_slurm_jobs_that_are_requeued_half_way_end_as_if_they_had_not_been(command: Command, tmp_path: Path) -> None:
    assert command("-m", "seed=1,2", *LONG, "hydra.sweep.dir=serial", "sweep.jobs=1").exit_code == 0
    sweep = start("-m", "seed=1,2", *LONG, "hydra.sweep.dir=slurm", "hydra/launcher=slurm")
    requeued = training(Path("slurm"), 1)
    one, other = queued()
    subprocess.run(["scontrol", "requeue", one], check=True)  # as the cluster does: SIGTERM, later SIGKILL
    preempted = training(Path("slurm"), 2)
    subprocess.run(["scancel", "--signal=USR2", other], check=True)  # as before a time limit: submitit requeues it
    printed, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, printed
    assert [outcome(job)["attempts"] for job in (requeued, preempted)] == [2, 2], printed
    for job in (requeued, preempted):
        assert "resumes from update" in (job / "train.log").read_text()
    assert weights(Path("serial")) == weights(Path("slurm"))


@pytest.mark.slurm
@pytest.mark.usefixtures("slurm_cluster")
@pytest.mark.timeout(600)
def test_a_slurm_job_that_is_killed_fails_alone_and_ctrl_c_leaves_nothing_in_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = (
        "-m",
        "seed=1,2,3,4",
        *LONG,
        "schedule.max_updates=1000000",
        "hydra.sweep.dir=slurm",
        "hydra/launcher=slurm",
    )
    sweep = start(*line)
    first = training(Path("slurm"), 1)
    second = training(Path("slurm"), 2)
    subprocess.run(["scancel", queued()[3]], check=True)
    subprocess.run(["scancel", "--signal=KILL", "--full", queued()[0]], check=True)
    (cancelled,) = Path("slurm").glob("*seed-4_*")
    wait_until(lambda: outcome(first)["status"] == "failed" and (cancelled / "status.json").exists())
    assert "its Slurm job" in str(outcome(first)["reason"])
    assert str(outcome(cancelled)["reason"]).endswith("before it began")
    sweep.send_signal(signal.SIGINT)
    printed, _ = sweep.communicate(timeout=200)
    assert sweep.returncode == 130, printed
    assert "resume the sweep with:" in printed
    assert queued() == []
    assert outcome(second)["status"] == "interrupted"
    assert json.loads((second / "summary.json").read_text())["status"] == "interrupted"


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_ray_cluster_gives_the_results_of_a_serial_sweep(ray_cluster: str, command: Command) -> None:
    assert command(*QUICK, "seed=1,2,3", "hydra.sweep.dir=serial", "sweep.jobs=1").exit_code == 0
    ray = start(*QUICK, "seed=1,2,3", "hydra.sweep.dir=ray", "hydra/launcher=ray_cluster",
                f"hydra.launcher.address={ray_cluster}")  # fmt: skip
    printed, _ = ray.communicate(timeout=300)
    assert ray.returncode == 0, printed
    assert weights(Path("serial")) == weights(Path("ray"))


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_ray_task_that_is_killed_fails_alone_and_ctrl_c_ends_the_others_after_a_checkpoint(
    ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = start("-m", "seed=1,2,3", *LONG, "schedule.max_updates=1000000", "hydra.sweep.dir=ray",
                  "hydra/launcher=ray_cluster", f"hydra.launcher.address={ray_cluster}")  # fmt: skip
    first, second = training(Path("ray"), 1), training(Path("ray"), 2)
    os.kill(int((first / "checkpoints" / ".owner").read_text().split()[1]), signal.SIGKILL)
    wait_until(lambda: outcome(first)["status"] == "failed")
    training(Path("ray"), 3)
    sweep.send_signal(signal.SIGINT)
    printed, _ = sweep.communicate(timeout=200)
    assert sweep.returncode == 130, printed
    assert outcome(second)["status"] == "interrupted"
    assert json.loads((second / "summary.json").read_text())["status"] == "interrupted"
