"""mnist_lstm in plain PyTorch: digits by rows, through torchvision's dataset and torch's DataLoader."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from benchmarks import implementation


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(28, 64, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        h, _ = self.lstm(images)  # (B, 28, 28) -> (B, 28, 64)
        return self.head(h[:, -1])


def accuracy(network: Network, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return (network(images).argmax(dim=1) == labels).float().mean().item()


def train(options: implementation.Options) -> implementation.Training:
    torch.manual_seed(options.seed)
    device = options.device
    training = MNIST(options.data_dir, train=True, transform=ToTensor())
    testing = MNIST(options.data_dir, train=False)
    test_images = testing.data.to(device).float() / 255
    test_labels = testing.targets.to(device)
    images = max(64, round(len(training) * options.share))
    chosen = Subset(training, range(images)) if images < len(training) else training
    loader = DataLoader(chosen, batch_size=64, shuffle=True)
    network = Network().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    loss_function = nn.CrossEntropyLoss()
    losses = []
    evaluating = 0.0

    began = time.perf_counter()
    for step, (batch, labels) in enumerate(loader):
        outputs = network(batch.view(-1, 28, 28).to(device))
        loss = loss_function(outputs, labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 50 == 0:
            paused = time.perf_counter()
            accuracy(network, test_images[:2000], test_labels[:2000])
            evaluating += time.perf_counter() - paused
    seconds = time.perf_counter() - began
    return implementation.Training(
        seconds - evaluating,
        len(losses),
        28 * images,
        implementation.last_tenth(losses),
        {"accuracy": accuracy(network, test_images, test_labels)},
        with_evaluation=seconds,
    )


if __name__ == "__main__":
    implementation.plain_command(train)
