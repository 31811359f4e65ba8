"""Bounded types for settings. Values live in YAML; what a value may be is said here, once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

MOST = 2**53  # every integer up to it is exact in floating point as well

Count = Annotated[int, Field(ge=1, le=MOST)]
Natural = Annotated[int, Field(ge=0, le=MOST)]
Size = Annotated[int, Field(ge=1, le=2**20)]  # of a layer
Layers = Annotated[int, Field(ge=1, le=1000)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
BelowOne = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
