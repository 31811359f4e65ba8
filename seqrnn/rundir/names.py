"""The names of the files in a run directory. No other module repeats them.

config.yaml        the resolved config            predictions.npz     test inputs, targets, outputs
overrides.yaml     the command line's overrides   snapshots.npz       the fit as it improved (plots.animation)
metrics.csv        a row per log point            samples.npz         training examples (classification)
metrics.jsonl      the same rows as JSON          weights.safetensors the trained weights
summary.json       status, test scores, versions  train.log           what was printed
forecast.npz       actual values and forecasts    intervals.json      how far prediction intervals reach
diagnosis.md       the report of a diagnosis      diagnosis.json      everything that a diagnosis measured
*.png, *.gif       pictures (seqrnn.plots)        best.safetensors    the weights of the best evaluation
preprocessing.json what is done to a table before the network reads it (task=csv)
data.json          what was read of it, and its checksum (task=csv)
loggers.json       by which name each logger knows the run
checkpoints/       what a run is resumed from (seqrnn.checkpoints)
"""

from __future__ import annotations

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
METRICS_CSV = "metrics.csv"
METRICS_JSONL = "metrics.jsonl"
SUMMARY = "summary.json"
PREDICTIONS = "predictions.npz"
SNAPSHOTS = "snapshots.npz"
SAMPLES = "samples.npz"
FORECAST, INTERVALS = "forecast.npz", "intervals.json"
WEIGHTS = "weights.safetensors"
BEST = "best.safetensors"
LOG = "train.log"
DIAGNOSIS, DIAGNOSIS_MD = "diagnosis.json", "diagnosis.md"
PREPROCESSING, DATA = "preprocessing.json", "data.json"
DOCUMENTS = (PREPROCESSING, DATA)  # of a task
LOGGERS = "loggers.json"
CHECKPOINTS = "checkpoints"
LOCK = f"{CHECKPOINTS}/.lock"
OWNER = f"{CHECKPOINTS}/.owner"
FILES = (
    CONFIG, OVERRIDES, METRICS_CSV, METRICS_JSONL, SUMMARY, PREDICTIONS, SNAPSHOTS, SAMPLES, FORECAST, INTERVALS,
    WEIGHTS, BEST, LOG, *DOCUMENTS,
)  # fmt: skip
