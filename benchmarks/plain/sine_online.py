"""sine_online in plain PyTorch: a hand-written Elman cell, a step of gradient descent after every timestep."""

from __future__ import annotations

import time

import torch

from benchmarks import data, implementation


def train(options: implementation.Options) -> implementation.Training:
    torch.manual_seed(options.seed)
    device = options.device
    inputs, targets = (torch.from_numpy(values).reshape(-1, 1, 1).to(device) for values in data.sine())
    W1 = (0.4 * torch.randn(7, 6)).to(device).requires_grad_()
    W2 = (0.3 * torch.randn(6, 1)).to(device).requires_grad_()
    optimizer = torch.optim.SGD([W1, W2], lr=0.1)
    epochs = max(1, round(300 * options.share))
    losses = []

    began = time.perf_counter()
    for _ in range(epochs):
        c = torch.zeros(1, 6, device=device)
        summed = 0.0
        for x, y in zip(inputs, targets, strict=True):  # (1, 1)
            z = torch.cat([x, c], dim=1)  # (1, 7)
            c = torch.tanh(z @ W1)
            output = c @ W2
            loss = 0.5 * (output - y).pow(2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            c = c.detach()
            summed += loss.item()
        losses.append(summed)
    seconds = time.perf_counter() - began

    with torch.no_grad():
        c = torch.zeros(1, 6, device=device)
        outputs = []
        for x in inputs:
            c = torch.tanh(torch.cat([x, c], dim=1) @ W1)
            outputs.append(c @ W2)
        mse = (torch.stack(outputs) - targets).pow(2).mean().item()
    return implementation.Training(
        seconds, epochs * 20, epochs * 20, implementation.last_tenth(losses) / 20, {"mse": mse}
    )


if __name__ == "__main__":
    implementation.plain_command(train)
