"""A GRU and Adadelta in a plain PyTorch script: one stream, a step after every ten timesteps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import data, implementation, outside


def train_network(
    recipe: str,
    cell: Callable[[Tensor, Any], tuple[Tensor, Any]],
    state: Any,
    head: nn.Module,
    optimizer: torch.optim.Optimizer,
    options: implementation.Options,
) -> implementation.Training:
    """Trains on one stream of the integral task, window by window."""
    updates = max(1, round(outside.UPDATES[recipe] * options.share))
    timesteps = updates * outside.WINDOW
    inputs, targets = (
        torch.from_numpy(v).reshape(-1, 1, 1).to(options.device) for v in data.integral(options.seed, timesteps)
    )
    loss_function = nn.L1Loss()
    losses = []

    began = time.perf_counter()
    for start in range(0, timesteps, outside.WINDOW):
        x = inputs[start : start + outside.WINDOW]  # (10, 1, 1)
        y = targets[start : start + outside.WINDOW]
        outputs, state = cell(x, state)
        state = tuple(part.detach() for part in state)
        loss = loss_function(head(outputs), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    seconds = time.perf_counter() - began

    with torch.no_grad():
        x, y = (torch.from_numpy(each).unsqueeze(-1).to(options.device) for each in data.integral_test())  # (T, N, 1)
        first = tuple(torch.zeros(1, x.shape[1], outside.HIDDEN, device=options.device) for _ in state)
        mae = (head(cell(x, first)[0]) - y).abs().mean().item()
    return implementation.Training(seconds, updates, timesteps, implementation.last_tenth(losses), {"mae": mae})


def train(options: implementation.Options) -> implementation.Training:
    torch.manual_seed(options.seed)
    gru, head = nn.GRU(1, outside.HIDDEN).to(options.device), nn.Linear(outside.HIDDEN, 1).to(options.device)
    optimizer = torch.optim.Adadelta([*gru.parameters(), *head.parameters()], lr=0.1)

    def cell(x: Tensor, state: tuple[Tensor]) -> tuple[Tensor, tuple[Tensor]]:
        outputs, h = gru(x, state[0])
        return outputs, (h,)

    state = (torch.zeros(1, 1, outside.HIDDEN, device=options.device),)
    return train_network("outside_optimizer", cell, state, head, optimizer, options)


if __name__ == "__main__":
    implementation.plain_command(train)
