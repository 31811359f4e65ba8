"""The cell of docs/extending.md in a plain PyTorch script: one stream, a step of Adam after every ten timesteps."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks import implementation, outside
from benchmarks.plain.outside_optimizer import train_network


def train(options: implementation.Options) -> implementation.Training:
    torch.manual_seed(options.seed)
    cell = outside.Leaky(1, hidden_size=outside.HIDDEN, leak=0.2).to(options.device)
    head = nn.Linear(outside.HIDDEN, 1).to(options.device)
    optimizer = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=0.001)
    return train_network("outside_cell", lambda x, h: cell(x, h), cell.initial_state(1), head, optimizer, options)


if __name__ == "__main__":
    implementation.plain_command(train)
