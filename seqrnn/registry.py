"""Components by name: register, look up, check their settings, build.

A component is a class or function that returns one. What the runner supplies (sizes, seeds, parameters)
comes before ``*`` in its signature; what YAML supplies comes after it, with a type and bounds:

    @register("model", "gru")
    class GRU(nn.Module):
        def __init__(self, input_size: int, *, hidden_size: Count, num_layers: Count): ...

Names are an allowlist: a config can only choose among what is registered.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from seqrnn.errors import ConfigError, did_you_mean

KINDS = ("task", "model", "optimizer", "instrument")
_components: dict[str, dict[str, Callable[..., Any]]] = {kind: {} for kind in KINDS}
C = TypeVar("C", bound=Callable[..., Any])


def register(kind: str, name: str) -> Callable[[C], C]:
    """Decorator: makes a component available to configs as ``kind=name``.

    Raises:
        ValueError: the kind is unknown, or another component has the name.
    """
    if kind not in KINDS:
        raise ValueError(f"cannot register a {kind!r}: the kinds are {', '.join(KINDS)}")

    def add(component: C) -> C:
        known = _components[kind].get(name)
        if known is not None and _origin(known) != _origin(component):
            raise ValueError(f"{kind} {name!r} is already registered by {_origin(known)}; choose another name")
        _components[kind][name] = component
        return component

    return add


def _origin(component: Callable[..., Any]) -> str:
    return f"{component.__module__}.{component.__qualname__}"


def names(kind: str) -> list[str]:
    """The registered names of a kind, sorted."""
    return sorted(_components[kind])


def find(kind: str, name: Any) -> Callable[..., Any]:
    """The component registered as ``name``.

    Raises:
        ConfigError: there is none.
    """
    if not isinstance(name, str) or name not in _components[kind]:
        raise ConfigError(
            f"{kind}.name={name}: no such {kind}{did_you_mean(str(name), names(kind))} "
            f"(there are: {', '.join(names(kind))})"
        )
    return _components[kind][name]


def build(kind: str, settings: Mapping[str, Any], *supplied: Any) -> Any:
    """Builds the component named by ``settings["name"]`` from what the runner supplies and its other settings."""
    values = {key: value for key, value in settings.items() if key != "name"}
    return find(kind, settings.get("name"))(*supplied, **values)


def settings_of(*components: Callable[..., Any]) -> type[BaseModel]:
    """The keyword-only parameters of components as one pydantic model: strict types, no unknown keys."""
    try:
        signatures = [inspect.signature(component, eval_str=True) for component in components]
    except (NameError, TypeError, ValueError) as error:
        raise ConfigError(f"{_origin(components[0])}: its settings cannot be read: {error}") from None
    fields: dict[str, Any] = {
        parameter.name: (
            parameter.annotation,
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for signature in signatures
        for parameter in signature.parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())
    return create_model(components[0].__name__, __config__=config, **fields)


def problems_with(model: type[BaseModel], values: Mapping[str, Any], where: str) -> list[str]:
    """What is wrong with ``values``: a line per problem, each naming the key as typed on the command line.

    Args:
        model: a pydantic model.
        where: what stands before the keys on the command line, such as ``model``.
    """
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        problems: dict[str, str] = {}  # what one of several types asks for is one problem, not several
        for found in error.errors():
            start, message = _explain(found, values, where, model.model_fields)
            problems[start] = f"{problems[start]}, or {message}" if start in problems else message
        return [line for start, message in problems.items() for line in f"{start}{message}".splitlines()]
    return []


def _explain(problem: Any, values: Mapping[str, Any], where: str, known: Iterable[str]) -> tuple[str, str]:
    """The key with its value, and what is wrong with it."""
    message = problem["msg"].removeprefix("Input ").removeprefix("Value error, ")
    path: list[str] = []
    inner: Any = values
    for part in problem["loc"]:  # behind the keys may stand the branch of a union
        if not isinstance(inner, Mapping):
            break
        path.append(str(part))
        inner = inner.get(part)
    if not path:
        return "", message  # several keys that do not fit together: the message names them
    key = ".".join([where, *path]).strip(".")
    if problem["type"] == "missing":
        return key, ": missing; give it a value"
    if problem["type"] == "extra_forbidden":
        nested = len(path) > 1
        choices = "" if nested else f"{did_you_mean(path[0], known)} (there are: {', '.join(known)})"
        return key, f": no such setting{choices}"
    return f"{key}={_as_typed(problem['input'])}: ", message


def _as_typed(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"'{value}'" if isinstance(value, str) and value.lstrip("+-").isdigit() else str(value)
