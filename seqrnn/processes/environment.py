"""Reads from the environment variables of torch.distributed which of several processes this one is.

Imports the standard library alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from seqrnn.errors import ConfigError

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # torch's names
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ProcessEnvironment:
    """Which process this is of those that share a run, by the environment variables of torch.distributed.

    Args:
        rank: its number; process 0 writes and prints.
        size: how many processes there are.
        local_rank: its number among those on the same machine.
        local_size: how many of them are on the same machine, or share the cores that this process may use.
        address, port: where process 0, or torchrun, can be reached.
        is_one_machine: whether all processes are on the same machine.
        has_agent: whether torchrun has started them, which then knows when one of them ends.
        allots_gpus: whether each process sees only the GPUs that are its own.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str
    port: int
    is_one_machine: bool
    has_agent: bool
    allots_gpus: bool


def process_environment(variables: Mapping[str, str] | None = None) -> ProcessEnvironment | None:
    """Returns what the environment variables say of this process; None: it is on its own.

    Raises:
        ConfigError: some of the variables are missing or wrong.
    """
    variables = os.environ if variables is None else variables
    if variables.get("WORLD_SIZE", "") in ("", "1"):
        return None
    missing = [name for name in NEEDED if not variables.get(name)]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE={variables['WORLD_SIZE']}: {', '.join(missing)} must be set too; torchrun sets all of "
            f"{', '.join(NEEDED)}; for a run in one process, unset WORLD_SIZE"
        )
    size, port = (_number(variables, name, 1) for name in ("WORLD_SIZE", "MASTER_PORT"))
    rank, address = _number(variables, "RANK", 0), variables["MASTER_ADDR"]
    if rank >= size:
        raise ConfigError(f"RANK={rank}: the processes have the numbers 0 to {size - 1} (WORLD_SIZE={size})")
    on_slurm = "LOCAL_RANK" not in variables and "SLURM_LOCALID" in variables
    is_loopback = address in LOOPBACK
    local_rank, local_size = rank if is_loopback else 0, size if is_loopback else 1
    if "LOCAL_RANK" in variables or on_slurm:
        local_rank = _number(variables, "SLURM_LOCALID" if on_slurm else "LOCAL_RANK", 0)
    if "LOCAL_WORLD_SIZE" in variables:
        local_size = _number(variables, "LOCAL_WORLD_SIZE", 1)
    return ProcessEnvironment(
        rank,
        size,
        local_rank,
        local_size,
        address,
        port,
        is_one_machine=is_loopback or local_size == size,
        has_agent=variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        allots_gpus=on_slurm,
    )


def _number(variables: Mapping[str, str], name: str, least: int) -> int:
    """Returns the whole number in a variable.

    Raises:
        ConfigError: the variable is not a whole number, or less than ``least``.
    """
    text = variables[name]
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise ConfigError(f"{name}={text}: should be a whole number of at least {least}")
    return int(text)
