"""Bounded types for settings. Values live in YAML, and the bounds of a value here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

LARGEST = 1e20  # divided by the smallest 1 - beta, it is still finite in single precision
MODERATE = 1e6  # such data can be squared, summed and squared without overflow
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
