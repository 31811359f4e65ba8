"""Forecasts of time series on NumPy arrays: metrics, baselines, prediction intervals, residuals, resampling.

Nothing here knows a network, a config or a file. T timesteps, of which each is the origin of a forecast; N series;
H steps of the horizon; K targets. A forecast is an array (T, N, H, K): at [t, n, h, k] it holds what is predicted,
with what is known at timestep t, of target k in series n at timestep t + h + 1. NaN is a value that is missing.
"""
