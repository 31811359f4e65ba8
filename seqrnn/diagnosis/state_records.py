"""The parts of the result of the states instrument: units, gates, and the recurrence's Jacobian."""

from __future__ import annotations

from seqrnn.diagnosis.intervals import Interval
from seqrnn.diagnosis.record import Items, Name, Pair, Record


class Units(Record):
    """The units of one layer.

    Args:
        name: which layer, counted from 1; or what else the units are.
        units: how many there are.
        saturated: share of (unit, timestep) pairs; None where saturation has no meaning.
        always_saturated: share of units; None likewise.
        dead, duplicate: share of units.
        effective_rank, participation_ratio: of at most ``units``.
    """

    name: Name
    units: int
    saturated: Interval | None
    always_saturated: Interval | None
    dead: Interval
    duplicate: Interval
    effective_rank: Interval
    participation_ratio: Interval


class Gate(Record):
    """A gate of one layer, over units and timesteps: its mean, and how often it is below 0.05 (0.95 below 0, if its
    activation is tanh) and above 0.95."""

    layer: int
    name: Name
    activation: Name
    mean: Interval
    below: Interval
    above: Interval


class Jacobian(Record):
    """
    Args:
        points: at how many points of real trajectories.
        spectral_radius: |λ|max, its mean over the points.
        largest_singular_value: the same; how much a change can grow in one timestep.
        share_above_one: of the points, those whose spectral radius is above 1.
        eigenvalues: of some points, each a list of [real part, imaginary part].
    """

    points: int
    spectral_radius: Interval
    largest_singular_value: Interval
    share_above_one: Interval
    eigenvalues: Items[Items[Pair]]
