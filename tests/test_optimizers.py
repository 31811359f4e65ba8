"""Optimizers by name compute the same as those of torch.optim, without the imports of torch.optim's first call."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from helpers import CONF
from omegaconf import OmegaConf
from torch import Tensor, nn

from seqrnn import optimizers, registry

NAMES = [name for name in registry.names("optimizer") if name != "ridge"]  # which makes no steps


def values_of(name: str, **changes: Any) -> dict[str, Any]:
    """conf/optimizer/NAME.yaml, with ``changes``."""
    values = OmegaConf.to_container(OmegaConf.load(CONF / "optimizer" / f"{name}.yaml"))
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()} | changes


def trained(values: dict[str, Any]) -> list[Tensor]:
    """The weights of a small network after ten steps, five of them by an optimizer that was loaded from a state."""
    torch.manual_seed(0)
    network = nn.Linear(5, 3)
    x = torch.randn(7, 5)
    optimizer = registry.build("optimizer", values, network.parameters())
    for step in range(10):
        if step == 5:
            state = optimizer.state_dict()
            optimizer = registry.build("optimizer", values, network.parameters())
            optimizer.load_state_dict(state)
        optimizer.zero_grad()
        network(x).square().sum().backward()
        optimizer.step()
    return list(network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_each_makes_the_steps_of_torch_optim_bit_for_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = values_of(name, lr=0.01, weight_decay=0.1)
    found = trained(values)
    monkeypatch.setattr(optimizers, "light", lambda kind: kind)
    for one, other in zip(found, trained(values), strict=True):
        assert torch.equal(one, other)


def test_hooks_run_and_gradients_are_recorded_again_afterwards() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = registry.build("optimizer", values_of("adam"), [weight])
    assert isinstance(optimizer, torch.optim.Adam)
    seen: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    weight.sum().backward()
    optimizer.step()
    assert seen == ["before", "after"]
    assert (weight * 2).requires_grad


def test_an_optimizer_whose_methods_are_not_wrapped_keeps_them() -> None:
    class Plain(torch.optim.Optimizer):
        def __init__(self, parameters: Any) -> None:
            self.param_groups = [{"params": list(parameters)}]

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter -= 1.0

        def zero_grad(self, set_to_none: bool = True) -> None:
            self.zeroed = True

    weight = nn.Parameter(torch.ones(2))
    optimizer: Any = optimizers.light(Plain)([weight])
    optimizer.zero_grad()
    optimizer.step()
    assert optimizer.zeroed
    assert weight.tolist() == [0.0, 0.0]


@pytest.mark.long
def test_none_of_them_imports_the_compiler() -> None:
    script = (
        "import sys, torch\n"
        "from test_optimizers import NAMES, trained, values_of\n"
        "for name in NAMES: trained(values_of(name, lr=0.01))\n"
        "print('slow:', sorted({'torch._dynamo', 'torch._inductor', 'sympy'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CONF.parent / "tests",
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "slow: []\n"


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_may_be_an_integer(name: str) -> None:
    kinds = {key: type(value) for key, value in values_of(name).items()}
    whole = {key: int(key in ("lr", "eps")) for key, kind in kinds.items() if kind is float}
    whole = {key: value for key, value in whole.items() if key != "momentum"}
    fractions = {key: float(value) for key, value in whole.items()}
    pairs = zip(trained(values_of(name, **whole)), trained(values_of(name, **fractions)), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(
    ("name", "changes", "count"),
    [("sgd", {"momentum": 0.0}, 0), ("sgd", {"momentum": 0.9}, 1), ("adam", {}, 2), ("adam", {"amsgrad": True}, 3)],
)
def test_tensors_that_an_optimizer_remembers_are_counted(name: str, changes: dict[str, Any], count: int) -> None:
    assert optimizers.tensors_remembered(values_of(name, lr=0.1, **changes)) == count
