"""How this process computes: the keys device, precision, threads, deterministic and seed; and in how much memory."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

import torch
from torch import Tensor

from seqrnn.errors import ConfigError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "float64", "bf16-mixed"]
ONE_THREAD_UP_TO = 8192  # hidden units times streams: less work than that is slower in several threads


class Movable(Protocol):
    """Something that can be copied to a device: a chunk of a task's data."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Self: ...


C = TypeVar("C", bound=Movable)


@dataclass(frozen=True)
class DeviceContext:
    """The device and the precision in which a network computes."""

    device: torch.device
    dtype: torch.dtype
    autocast: torch.dtype | None = None  # the type of mixed precision, if any

    def __call__(self, chunk: C) -> C:
        """Returns the chunk on the device, with floating-point values in ``dtype``."""
        return chunk.to(self.device, self.dtype)

    def carried(self, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Returns a state that a later window begins with, without the graph that led to it. In mixed precision it is
        kept in ``dtype``: what a cell adds up over many windows would be lost in 8 bits of precision."""
        if self.autocast is None:
            return tuple(part.detach() for part in state)
        return tuple(part.detach().to(self.dtype) if part.is_floating_point() else part.detach() for part in state)

    def precision(self) -> AbstractContextManager[Any]:
        """Returns a context that runs operations in mixed precision, if ``autocast`` is set."""
        return nullcontext() if self.autocast is None else torch.autocast(self.device.type, self.autocast)


def device_context(device: Device, precision: Precision) -> DeviceContext:
    """Returns the context for the config's keys ``device`` and ``precision``.

    Raises:
        ConfigError: cuda is asked for, or needed for the precision, and there is none.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        built = torch.version.cuda or "no CUDA"
        raise ConfigError(
            f"device=cuda: no usable NVIDIA GPU was found (torch {torch.__version__}, built for {built}); "
            "use device=cpu or device=auto"
        )
    chosen = torch.device("cuda" if available and device != "cpu" else "cpu")
    if precision == "bf16-mixed" and chosen.type != "cuda":
        raise ConfigError("precision=bf16-mixed: needs device=cuda; use precision=float32")
    return DeviceContext(
        chosen,
        torch.float64 if precision == "float64" else torch.float32,
        torch.bfloat16 if precision == "bf16-mixed" else None,
    )


def describe(device: torch.device) -> str:
    """Returns a description for people: ``cpu (2 threads)``, or the GPU's name."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' if threads > 1 else ''})"


def uses_gpu(device: Device) -> bool:
    """Returns whether a run with this value of the key ``device`` computes on a GPU."""
    return device != "cpu" and torch.cuda.is_available()


def available_cores() -> int:
    """Returns on how many cores this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for(threads: int | Literal["auto"], work: int, cores: int) -> int:
    """Returns how many threads the key ``threads`` means.

    Args:
        work: hidden units times streams, by which ``auto`` decides: one thread for little work, else one per core.
    """
    if threads != "auto":
        return threads
    return 1 if work <= ONE_THREAD_UP_TO else cores


def prepare(seed: int, deterministic: bool, threads: int | Literal["auto"], work: int) -> None:
    """Sets torch's seed, thread count and determinism for this process.

    Args:
        work: hidden units times streams (see ``threads_for``).
    """
    torch.manual_seed(seed)
    torch.set_num_threads(threads_for(threads, work, available_cores()))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this setting
    # The same as torch.use_deterministic_algorithms, which would import torch's compiler.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = deterministic


def available_memory() -> int | None:
    """Returns how many bytes this process can still take before the system runs out of memory, swap space included;
    None where the system does not tell."""
    found = [_unused_memory(), _unused_by_group(), _unused_address_space()]
    return min((number for number in found if number is not None), default=None)


def _unused_memory() -> int | None:
    """Returns the memory that Linux estimates for programs that start now."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return 1024 * (kilobytes["MemAvailable"] + kilobytes.get("SwapFree", 0))
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _unused_by_group() -> int | None:
    """Returns what the limit of a container leaves (control groups, version 2 or 1). Cached files do not count
    as used."""
    for folder, limit, used, cached in (
        ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, taken = (int((Path(folder) / name).read_text(encoding="ascii")) for name in (limit, used))
            rows = (line.split() for line in (Path(folder) / "memory.stat").read_text(encoding="ascii").splitlines())
            files = {row[0]: int(row[1]) for row in rows}
            return max(0, most - taken + files.get(cached, 0))
        except (OSError, ValueError, IndexError):  # there is no such group, or no limit ("max")
            continue
    return None


def _unused_address_space() -> int | None:
    """Returns what ``ulimit -v`` leaves."""
    try:
        import resource  # not on Windows

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError, ValueError):
        return None
    return None if limit == resource.RLIM_INFINITY else max(0, limit - pages * resource.getpagesize())
