"""sincos_lstm in plain PyTorch: cosine from sine, each half wave from a zero state."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from benchmarks import data, implementation


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 32)
        self.head = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.lstm(x)  # (T, B, 1) -> (T, B, 32)
        return self.head(h)


def train(options: implementation.Options) -> implementation.Training:
    torch.manual_seed(options.seed)
    device = options.device
    windows = max(1, round(100 * options.share))
    inputs, targets = (torch.from_numpy(v).reshape(-1, 10, 1, 1).to(device) for v in data.sincos(0, windows))
    network = Network().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    loss_function = nn.MSELoss()
    losses = []

    began = time.perf_counter()
    for x, y in zip(inputs, targets, strict=True):  # (10, 1, 1)
        loss = loss_function(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    seconds = time.perf_counter() - began

    with torch.no_grad():
        x, y = (torch.from_numpy(v).T.reshape(10, 20, 1).to(device) for v in data.sincos(100, 120))
        mse = loss_function(network(x), y).item()
    return implementation.Training(seconds, windows, 10 * windows, implementation.last_tenth(losses), {"mse": mse})


if __name__ == "__main__":
    implementation.plain_command(train)
