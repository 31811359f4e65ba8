"""integral_accumulated in plain PyTorch: a backward pass every two timesteps, an optimizer step every 50."""

from __future__ import annotations

import time

import torch
from torch import nn

from benchmarks import data, implementation
from benchmarks.plain.integral_forgetting import Network, test


def train(options: implementation.Options) -> implementation.Training:
    torch.manual_seed(options.seed)
    device = options.device
    updates = max(1, round(5_000 * options.share))
    timesteps = 50 * updates
    inputs, targets = (
        torch.from_numpy(v).reshape(-1, 1, 1).to(device) for v in data.integral(options.seed, timesteps)
    )
    network = Network().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.0002)
    loss_function = nn.L1Loss()
    h = torch.zeros(1, 1, 50, device=device)
    losses = []

    began = time.perf_counter()
    for start in range(0, timesteps, 2):
        x = inputs[start : start + 2]  # (2, 1, 1)
        y = targets[start : start + 2]
        outputs, h = network(x, h)
        h = h.detach()
        loss = loss_function(outputs, y)
        (loss / 25).backward()
        losses.append(loss.item())
        if (start + 2) % 50 == 0:
            optimizer.step()
            optimizer.zero_grad()
    seconds = time.perf_counter() - began
    return implementation.Training(
        seconds, updates, timesteps, implementation.last_tenth(losses), test(network, device)
    )


if __name__ == "__main__":
    implementation.plain_command(train)
