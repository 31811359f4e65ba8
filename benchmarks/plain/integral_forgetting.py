"""integral_forgetting in plain PyTorch: one stream, a backward pass and an optimizer step every two timesteps."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from benchmarks import data, implementation


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 50)
        self.hidden = nn.Linear(50, 50)
        self.out = nn.Linear(50, 1)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        outputs, h = self.gru(x, h)  # (T, B, 1), (1, B, 50) -> (T, B, 50), (1, B, 50)
        return self.out(torch.relu(self.hidden(outputs))), h


def test(network: Network, device: str) -> dict[str, float]:
    """Returns the mean absolute error on new sequences."""
    with torch.no_grad():
        x, y = (torch.from_numpy(values).unsqueeze(-1).to(device) for values in data.integral_test())  # (T, N, 1)
        outputs, _ = network(x, torch.zeros(1, x.shape[1], 50, device=device))
        return {"mae": (outputs - y).abs().mean().item()}


def train(options: implementation.Options) -> implementation.Training:
    torch.manual_seed(options.seed)
    device = options.device
    timesteps = round(125_000 * options.share) * 2
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
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    seconds = time.perf_counter() - began
    return implementation.Training(
        seconds, timesteps // 2, timesteps, implementation.last_tenth(losses), test(network, device)
    )


if __name__ == "__main__":
    implementation.plain_command(train)
