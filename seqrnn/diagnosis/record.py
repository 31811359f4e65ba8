"""What results are made of: pydantic models that are written to diagnosis.json and read back by the same classes."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from seqrnn.rundir.bounded import Items, Name

__all__ = ["Items", "Name", "Number", "Pair", "Record", "require_equal_lengths"]


def _not_null(value: Any) -> Any:
    return math.nan if value is None else value


# The files hold null for NaN and infinity; it is read as NaN.
Number = Annotated[float, BeforeValidator(_not_null), Field(strict=True)]
Pair = Annotated[list[Number], Field(min_length=2, max_length=2)]


class Record(BaseModel):
    """Base of everything in diagnosis.json: immutable, with strict types. Unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", protected_namespaces=())


def require_equal_lengths(**lists: list[Any] | None) -> None:
    """Checks that lists that belong together, such as lags and the values at them, are equally long.

    Raises:
        ValueError: they are not.
    """
    lengths = {name: len(values) for name, values in lists.items() if values is not None}
    if len(set(lengths.values())) > 1:
        found = " and ".join(f"{count:,} {name}" for name, count in lengths.items())
        raise ValueError(f"has {found}; there should be as many of each")
