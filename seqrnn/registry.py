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
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, create_model

from seqrnn.errors import ConfigError, did_you_mean

SUPPLIED = {  # by kind: the positional arguments of its components
    "task": "the seed",
    "model": "the number of inputs",
    "optimizer": "the parameters",
    "instrument": "nothing",
    "logger": "a seqrnn.recording.loggers.protocol.LoggedRun",
}
KINDS = tuple(SUPPLIED)
LONG = 1e9  # bounds from here on are written as 1e+09
_components: dict[str, dict[str, Callable[..., Any]]] = {kind: {} for kind in KINDS}
C = TypeVar("C", bound=Callable[..., Any])


def register(kind: str, name: str) -> Callable[[C], C]:
    """Returns a decorator that makes a component available to configs as ``kind=name``.

    Raises:
        ValueError: the kind is unknown, or another component has the name.
    """
    if kind not in KINDS:
        raise ValueError(f"cannot register a {kind!r}: the kinds are {', '.join(KINDS)}")

    def add(component: C) -> C:
        known = _components[kind].get(name)
        if known is not None and describe(known) != describe(component):
            raise ValueError(f"{kind} {name!r} is already registered by {describe(known)}; choose another name")
        _components[kind][name] = component
        return component

    return add


def describe(component: Callable[..., Any]) -> str:
    """Returns where a component is defined, for errors: ``my_package.cells.Cell``."""
    return f"{component.__module__}.{component.__qualname__}"


def names(kind: str) -> list[str]:
    """Returns the registered names of a kind, sorted."""
    return sorted(_components[kind])


def find(kind: str, name: Any) -> Callable[..., Any]:
    """Returns the component registered as ``name``.

    Raises:
        ConfigError: there is none.
    """
    if not isinstance(name, str) or name not in _components[kind]:
        raise ConfigError(
            f"{kind}.name={name}: no such {kind}{did_you_mean(str(name), names(kind))} "
            f"(there are: {', '.join(names(kind))}; name the module of one of your own with plugins=[MODULE])"
        )
    return _components[kind][name]


def build(kind: str, settings: Mapping[str, Any], *supplied: Any) -> Any:
    """Builds the component named by ``settings["name"]`` from what the runner supplies and its other settings.

    Raises:
        ConfigError: there is none, or its signature does not take them.
    """
    component = find(kind, settings.get("name"))
    values = {key: value for key, value in settings.items() if key != "name"}
    try:
        inspect.signature(component).bind(*supplied, **values)
    except TypeError as error:
        raise ConfigError(
            f"{kind}.name={settings['name']}: {describe(component)} cannot be built: {error}; before * it takes "
            f"{SUPPLIED[kind]}, and after * its settings"
        ) from None
    return component(*supplied, **values)


def missing_members(component: Any, protocol: type) -> list[str]:
    """Returns the attributes and methods of a protocol that a component lacks; methods end with ``()``."""
    # A property may read data, and is there without being read.
    attributes = [
        name
        for name in protocol.__annotations__
        if not isinstance(getattr(type(component), name, None), property) and not hasattr(component, name)
    ]
    methods = [name for name, value in vars(protocol).items() if inspect.isfunction(value) and name[:1] != "_"]
    return attributes + [f"{name}()" for name in methods if not callable(getattr(component, name, None))]


@cache
def settings_of(*components: Callable[..., Any]) -> type[BaseModel]:
    """Returns the keyword-only parameters of components as one pydantic model: strict types, no unknown keys.

    Raises:
        ConfigError: some have no type, or types that cannot be read.
    """
    fields: dict[str, Any] = {}
    problems = []
    for component in components:
        try:
            signature = inspect.signature(component, eval_str=True)
        except (NameError, TypeError, ValueError, SyntaxError) as error:
            problems.append(f"{describe(component)}: the types of its settings cannot be read: {error}")
            continue
        for parameter in signature.parameters.values():
            if parameter.kind is not parameter.KEYWORD_ONLY:
                continue
            if parameter.annotation is parameter.empty:
                problems.append(
                    f"{describe(component)}: its setting {parameter.name} has no type; give it one, such as "
                    f"{parameter.name}: Count (seqrnn.bounds has more)"
                )
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (parameter.annotation, default)
    if problems:
        raise ConfigError(*problems)
    config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())
    try:
        return create_model(components[0].__name__, __config__=config, **fields)
    except (PydanticUserError, NameError) as error:  # a type that is no type of a value in YAML
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{describe(components[0])}: a type of its settings is none of YAML's: {reason}") from None


def problems_with(model: type[BaseModel], values: Mapping[str, Any], where: str) -> list[str]:
    """Returns what is wrong with ``values``: a line per problem, each naming the key as typed on the command line.

    Args:
        model: a pydantic model.
        where: what stands before the keys on the command line, such as ``model``.
    """
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        problems: dict[str, str] = {}  # the demands of the branches of a union are one problem, not several
        for found in error.errors():
            start, message = _described(found, values, where, model.model_fields)
            problems[start] = f"{problems[start]}, or {message}" if start in problems else message
        return [line for start, message in problems.items() for line in f"{start}{message}".splitlines()]
    return []


def _described(problem: Any, values: Mapping[str, Any], where: str, known: Iterable[str]) -> tuple[str, str]:
    """Returns the key with its value, and what is wrong with it."""
    message = problem["msg"].removeprefix("Input ").removeprefix("Value error, ")
    for bound in (problem.get("ctx") or {}).values():
        if isinstance(bound, float) and abs(bound) >= LONG:
            message = message.replace(f"{bound:.0f}", f"{bound:g}")
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
    return f"{key}={_as_yaml(problem['input'])}: ", message


def _as_yaml(value: Any) -> str:
    """Returns a value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"'{value}'" if isinstance(value, str) and value.lstrip("+-").isdigit() else str(value)
