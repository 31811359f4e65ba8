"""Bounded types for settings. Values live in YAML; what a value may be is said here, once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

LARGEST = 1e20  # divided by the least that 1 - beta can be, it is still a number in single precision
MODERATE = 1e6  # what comes of it can be squared, summed and squared again
MOST = 2**53  # every integer up to it is exact in floating point as well

Count = Annotated[int, Field(ge=1, le=MOST)]
Natural = Annotated[int, Field(ge=0, le=MOST)]
Size = Annotated[int, Field(ge=1, le=2**20)]  # of a layer
Layers = Annotated[int, Field(ge=1, le=1000)]
Real = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Moderate = Annotated[float, Field(ge=-MODERATE, le=MODERATE, allow_inf_nan=False)]  # of data
Spread = Annotated[float, Field(ge=0, le=MODERATE, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
BelowOne = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
