"""The linear model that a network has to beat: a ridge regression of the targets on the latest inputs.

Direct, in the terms of Ben Taieb et al. (2012): each step of the horizon has coefficients of its own. The strength of
the ridge is chosen for each output by generalised cross-validation (Golub, Heath & Wahba 1979).

Only sums of products are kept of the training data, so memory does not grow with its length. T timesteps, B series,
I inputs, O outputs, L lags; the F = L · I features of a timestep are its inputs and those of the L − 1 timesteps
before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Truths = NDArray[np.bool_]
MOST_FEATURES = 512
MOST_BLOCK = 2**21  # features that are in memory at a time
STRENGTHS = np.geomspace(1e-8, 1e4, 49)  # of the ridge, in units of the mean variance of a feature × the rows


class Sequences(NamedTuple):
    """B sequences of T timesteps.

    Args:
        inputs: (T, B, I).
        targets: (T, B, O).
        valid: (T, B): whether the targets count.
        starts: (T, B): whether a sequence begins here; lags do not reach back beyond it.
    """

    inputs: NDArray[np.floating]
    targets: NDArray[np.floating]
    valid: Truths
    starts: Truths


@dataclass(frozen=True)
class RidgeAutoregression:
    """
    Args:
        lags: L.
        coefficients: (F, O), lag after lag, the present timestep first.
        intercept: (O,).
        strengths: (O,), of the ridge, that were chosen.
        rows: timesteps that it was fitted to; where outputs have other ones, the least.
    """

    lags: int
    coefficients: Array
    intercept: Array
    strengths: Array
    rows: int

    def __call__(self, inputs: NDArray[np.floating], starts: Truths) -> Array:
        """Returns the outputs for sequences: inputs (T, B, I) and starts (T, B) -> (T, B, O). Before the first
        timestep of a sequence, its first inputs stand."""
        outputs = np.empty((*inputs.shape[:2], len(self.intercept)))
        for block in _blocks(inputs, self.lags):
            features = _features(inputs, starts, self.lags, block)
            outputs[block] = features @ self.coefficients + self.intercept
        return outputs


def default_lags(inputs: int, rows: int) -> int:
    """Returns how many lags a ridge autoregression has by default: 32, or as many as have at most ``MOST_FEATURES``
    features and a feature for each 5 rows of training data; at least 1."""
    most = min(MOST_FEATURES, rows // 5)
    return max(1, min(32, most // inputs))


def fit(sequences: Iterable[Sequences], lags: int, missing_targets: bool = False) -> RidgeAutoregression | None:
    """Fits a ridge autoregression to training data, which is read once.

    Rows count whose targets are valid and finite, and whose lags all lie within their sequence and are finite.

    Args:
        sequences: the training data.
        missing_targets: whether some of a row's targets may be NaN. Each output is then fitted to the rows of its own
            target, which takes as many times as long as there are outputs; otherwise to the rows that have all.

    Returns:
        None where fewer than two rows count.
    """
    sums: list[_Sums | None] = []
    for one in sequences:
        first = _first_timesteps(one.starts)
        outputs = [slice(n, n + 1) for n in range(one.targets.shape[-1])] if missing_targets else [slice(None)]
        sums = sums or [None] * len(outputs)
        for block in _blocks(one.inputs, lags):
            features = _features(one.inputs, one.starts, lags, block).reshape(-1, lags * one.inputs.shape[-1])
            targets = np.asarray(one.targets[block], np.float64).reshape(len(features), -1)
            times = np.arange(block.start, block.stop)[:, None]
            counts = (one.valid[block] & (times - first[block] >= lags - 1)).reshape(-1)
            counts &= np.isfinite(features).all(axis=1)
            for number, output in enumerate(outputs):
                sums[number] = _added(sums[number], features, targets[:, output], counts)
    fitted = [_solved(each, lags) for each in sums if each is not None and each.rows >= 2]
    if not fitted or len(fitted) < len(sums):
        return None
    coefficients, intercept, strengths = (
        np.concatenate([getattr(each, name) for each in fitted], axis=-1)
        for name in ("coefficients", "intercept", "strengths")
    )
    return RidgeAutoregression(lags, coefficients, intercept, strengths, min(each.rows for each in fitted))


def _added(sums: _Sums | None, features: Array, targets: Array, counts: Truths) -> _Sums | None:
    """Returns sums to which the rows that count have been added, if all their targets are finite."""
    counts = counts & np.isfinite(targets).all(axis=1)
    if sums is None and counts.any():
        sums = _Sums.around(features[counts], targets[counts])
    if sums is not None:
        sums.add(features[counts], targets[counts])
    return sums


@dataclass
class _Sums:
    """Sums of products of features (F) and targets (O). They are counted from values near the means, so that little
    is lost to rounding where the means are large."""

    feature_shift: Array
    target_shift: Array
    rows: int
    features: Array
    targets: Array
    gram: Array
    cross: Array
    squares: Array

    @classmethod
    def around(cls, features: Array, targets: Array) -> _Sums:
        size, outputs = features.shape[1], targets.shape[1]
        zeros = (np.zeros(shape) for shape in (size, outputs, (size, size), (size, outputs), outputs))
        return cls(features.mean(axis=0), targets.mean(axis=0), 0, *zeros)

    def add(self, features: Array, targets: Array) -> None:
        x, y = features - self.feature_shift, targets - self.target_shift
        self.rows += len(x)
        self.features += x.sum(axis=0)
        self.targets += y.sum(axis=0)
        self.gram += x.T @ x
        self.cross += x.T @ y
        self.squares += (y**2).sum(axis=0)


def _solved(sums: _Sums, lags: int) -> RidgeAutoregression:
    """Returns the ridge regression with an intercept, with the strengths that generalised cross-validation prefers.

    With centred data X = U √D V', the residual sum of squares and the degrees of freedom of every strength λ follow
    from D, V and X'y alone: the error to minimise is RSS(λ) / (n − 1 − Σ d / (d + λ))².
    """
    n = sums.rows
    means, target_means = sums.features / n, sums.targets / n
    gram = sums.gram - n * np.outer(means, means)
    cross = sums.cross - n * np.outer(means, target_means)
    squares = sums.squares - n * target_means**2  # (O,)
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 0.0)
    rotated = vectors.T @ cross  # (F, O)
    strengths = STRENGTHS * (float(values.mean()) or 1.0)
    shrunk = 1 / (values[:, None] + strengths)  # (F, S)
    freedom = n - 1 - (values[:, None] * shrunk).sum(axis=0)  # (S,)
    explained = np.einsum("fo,fs->so", rotated**2, 2 * shrunk - values[:, None] * shrunk**2)
    residual = np.maximum(squares - explained, 0.0)  # (S, O)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(freedom[:, None] > 0.5, residual / freedom[:, None] ** 2, np.inf)
    chosen = strengths[error.argmin(axis=0)]  # (O,)
    coefficients = vectors @ (rotated / (values[:, None] + chosen))
    intercept = sums.target_shift + target_means - (sums.feature_shift + means) @ coefficients
    return RidgeAutoregression(lags, coefficients, intercept, chosen, n)


def _blocks(inputs: NDArray[np.floating], lags: int) -> Iterator[slice]:
    """Yields ranges of timesteps whose features fit into a block."""
    timesteps, series, size = inputs.shape
    each = max(1, MOST_BLOCK // (series * size * lags))
    for start in range(0, timesteps, each):
        yield slice(start, min(start + each, timesteps))


def _features(inputs: NDArray[np.floating], starts: Truths, lags: int, block: slice) -> Array:
    """Returns the features (t, B, F) of a range of timesteps."""
    first = _first_timesteps(starts)[block]  # (t, B)
    times = np.arange(block.start, block.stop)[:, None]
    series = np.arange(inputs.shape[1])
    lagged = [inputs[np.maximum(times - lag, first), series] for lag in range(lags)]
    return np.concatenate(lagged, axis=-1, dtype=np.float64)


def _first_timesteps(starts: Truths) -> NDArray[np.int64]:
    """Returns the timestep at which the sequence of each timestep began: (T, B)."""
    times = np.arange(len(starts))[:, None]
    found: NDArray[np.int64] = np.maximum.accumulate(np.where(starts, times, 0), axis=0)
    return found
