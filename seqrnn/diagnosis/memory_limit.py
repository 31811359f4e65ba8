"""A limit on the memory that a diagnosis takes: the sizes in a received config may be larger than any machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from seqrnn.errors import DataError

GROUP = Path("/sys/fs/cgroup")  # of processes that share a limit: a container or a job


@contextmanager
def limited_memory(directory: Path, most_bytes: int) -> Iterator[None]:
    """Limits what the process takes within the block to ``most_bytes``, or to what the machine has left, if that is
    less: an array that does not fit is an error instead of a killed process. Without effect outside Linux.

    Raises:
        DataError: more memory was asked for; names ``directory``.
    """
    allowed = min(most_bytes, _available() or most_bytes)
    restore = _limit(allowed)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise DataError(
            f"{directory}: a network or data of the sizes in its config needs more than the {allowed / 2**30:.1f} "
            "GiB of memory that a diagnosis may take here; diagnose a smaller run, or use a larger machine"
        ) from None
    finally:
        restore()


def is_out_of_memory(error: Exception) -> bool:
    """Whether NumPy, torch or Python asked for memory and got none."""
    phrases = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or any(phrase in str(error) for phrase in phrases)


def _available() -> int | None:
    """Returns the bytes that are left on this machine and in this process's group; None if that is not known."""
    found = []
    with suppress(OSError, ValueError):
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        found.append(1024 * int(lines["MemAvailable"].split()[0]))
    with suppress(OSError, ValueError):
        limit, used = (int((GROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        found.append(max(0, limit - used))
    return min(found, default=None)


def _limit(allowed: int) -> Callable[[], object]:
    """Limits the process to ``allowed`` bytes more than it has now; returns what restores the old limit."""
    try:
        import resource  # late: only on POSIX

        status = Path("/proc/self/status").read_text("utf-8")
        used = 1024 * int(status.partition("VmData:")[2].split()[0])
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        bound = used + allowed if hard == resource.RLIM_INFINITY else min(used + allowed, hard)
        if soft == resource.RLIM_INFINITY or bound < soft:
            resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
            return lambda: resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    except (ImportError, OSError, ValueError, IndexError):
        pass
    return lambda: None
