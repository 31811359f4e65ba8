"""Which runs can be members of one population, and which of none, by their configs."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from seqrnn import registry
from seqrnn.components import build_network
from seqrnn.device import DeviceContext
from seqrnn.keys import flattened
from seqrnn.models.network import Network
from seqrnn.optimizers import Ridge
from seqrnn.population.recurrences import joint_cell, joint_initial_state, joint_module, named_below
from seqrnn.population.steps import rule_of
from seqrnn.settings import Values, logger_names
from seqrnn.strategies.folded import obstacle_to_folding

# What decides which numbers an update consists of. Everything else may differ: seeds, initial weights, settings of
# the optimizer, clipping, learning-rate decay, the length of the run, and what it writes.
SHARED = ("task.*", "device", "precision", "threads", "kernel", "deterministic", "smoke", "plugins")
SHARED_OF_SCHEDULE = ("gradient", "streams", "window", "stride", "update_every", "carry")
CHECKED = DeviceContext(torch.device("cpu"), torch.float64)
TOLERANCE = 1e-9


def alike(values: Values) -> str:
    """Returns a text that is equal for runs that can be members of one population."""
    schedule = {key: values["schedule"].get(key) for key in SHARED_OF_SCHEDULE}
    shared = {key: values[key.removesuffix(".*")] for key in SHARED}
    network, optimizer = _parts(json.dumps(values["model"]), json.dumps(values["optimizer"]))
    rule = rule_of(optimizer)
    alike = rule.alike(optimizer.param_groups[0]) if rule else ()
    return json.dumps([shared, schedule, structure(network), alike], sort_keys=True)


def obstacle(values: Values) -> str | None:
    """Returns why a run can be no member of a population; None: it can be."""
    if values["kernel"] == "compiled":
        return "kernel=compiled: a population computes through torch; set kernel=auto or kernel=torch"
    if values["schedule"].get("gradient", "bptt") != "bptt":
        return f"schedule.gradient={values['schedule']['gradient']}: a population computes gradients by bptt alone"
    if values["precision"] == "bf16-mixed":
        return "precision=bf16-mixed: a population computes in float32 or float64"
    if values["diagnose"]:
        return "diagnose=true: diagnose the runs of a population later (python -m seqrnn.diagnose RUN_DIR)"
    others = [name for name in logger_names(values["logger"]) if name != "tensorboard"]
    if others:
        return f"logger={others[0]}: follows one run of a process at a time; a population can write to tensorboard"
    return _obstacle_of(json.dumps(values["model"]), json.dumps(values["optimizer"]))


@cache
def _parts(model: str, optimizer: str) -> tuple[Network, Any]:
    """Returns a network and an optimizer with these settings, for a task of two inputs and one output."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = build_network(json.loads(model), 2, 1, "torch").double()
    return network, registry.build("optimizer", json.loads(optimizer), network.parameters())


@cache
def _obstacle_of(model: str, optimizer: str) -> str | None:
    network, built = _parts(model, optimizer)
    name = json.loads(optimizer)["name"]
    if isinstance(built, Ridge):
        return f"optimizer.name={name}: computes the head in closed form, without updates"
    if rule_of(built) is None:
        return f"optimizer.name={name}: a population has no rule for its step"
    where = f"model.name={json.loads(model)['name']}"
    drawn = obstacle_to_folding(network, 2, CHECKED)
    if drawn:
        return f"{where}: {drawn}: its members would not draw the numbers that they draw alone"
    try:
        difference = difference_from_single(network)
    except Exception as error:  # of any kind: the cell may be anybody's
        reason = " ".join(str(error).split())[:200]
        return f"{where}: torch.func.vmap cannot compute this cell: {type(error).__name__}: {reason}"
    if difference is None:
        return f"{where}: parameters without a gradient, which optimizers leave alone"
    if not difference < TOLERANCE:
        return f"{where}: computed together, gradients differ by {difference:.1g} from those of each alone"
    return None


def difference_from_single(network: Network) -> float | None:
    """Returns by how much gradients of two networks that are computed together differ from those of each alone.

    Returns:
        None: some parameters have no gradient.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 3, 2, 2, generator=generator, dtype=torch.float64)  # (N, T, B, I)
    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    factors = torch.tensor([1.0, 0.9], dtype=torch.float64)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    weights = {}
    for name, value in own.items():
        both = torch.stack([value.detach()] * 2)
        if name in trained:
            both = (both * factors.view(2, *[1] * value.dim())).requires_grad_()
        weights[name] = both
    cell, head = named_below(weights, "cell."), named_below(weights, "head.")
    hidden, _ = joint_cell(network.cell)(cell, inputs, joint_initial_state(network.cell)(cell, 2))
    outputs = joint_module(network.head)(head, hidden.flatten(1, 2))
    together = torch.autograd.grad(outputs.square().sum(), [weights[name] for name in trained], allow_unused=True)
    if any(gradient is None for gradient in together):
        return None
    worst = 0.0
    for member in range(2):
        single = {name: value[member].detach().requires_grad_(name in trained) for name, value in weights.items()}
        found = torch.func.functional_call(
            _Whole(network), {f"network.{n}": v for n, v in single.items()}, inputs[member]
        )
        alone = torch.autograd.grad(found.square().sum(), [single[name] for name in trained])
        worst = max([worst, *(float((a - b[member]).abs().max()) for a, b in zip(alone, together, strict=True))])
    return worst


class _Whole(nn.Module):
    """A network that begins with its initial state."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.network(inputs, self.network.initial_state(inputs.shape[1]))[0]
        return outputs


def structure(network: nn.Module) -> list[Any]:
    """Returns what a network computes with besides its weights, and the shapes of these: equal for networks whose
    weights can be those of one another."""
    found: list[Any] = []
    for name, module in network.named_modules():
        plain = {key: repr(value) for key, value in vars(module).items() if not key.startswith("_")}
        shapes = [(key, list(each.shape), each.requires_grad) for key, each in module.named_parameters(recurse=False)]
        shapes += [(key, list(each.shape), False) for key, each in module.named_buffers(recurse=False)]
        found.append([name, f"{type(module).__module__}.{type(module).__qualname__}", plain, shapes])
    return found


def differing_keys(one: Values, other: Values) -> list[str]:
    """Returns the keys in which two configs differ."""
    first, second = flattened(one), flattened(other)
    return sorted(key for key in {*first, *second} if first.get(key) != second.get(key))
