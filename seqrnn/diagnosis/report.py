"""A diagnosis in words: diagnosis.md, and what the terminal shows of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from seqrnn.diagnosis.command_line import unknown_config_files
from seqrnn.diagnosis.diagnosis import Diagnosis, TriedRemedy, Verdict
from seqrnn.diagnosis.instrument import Finding
from seqrnn.diagnosis.intervals import Interval, number, part_of_length
from seqrnn.diagnosis.record import Record

DIVERGED = 1e6  # effect of a remedy


def summary(verdict: Verdict) -> str:
    """Returns the verdict in Markdown."""
    return "\n".join(_summary(verdict))


def _summary(verdict: Verdict) -> Iterator[str]:
    yield verdict.headline
    yield ""
    tried = {one.remedy: one for cause in verdict.causes for one in cause.tried}
    tried |= {one.remedy: one for one in verdict.other_trials}
    for place, cause in enumerate(verdict.causes, 1):
        yield f"{place}. **{cause.finding.title}.** {cause.finding.description}"
        yield from _evidence(cause.finding)
        if cause.tried:
            yield f"    - {_best(cause.tried)}"
        elif tried and cause.finding.effect is None:
            yield "    - not confirmed: no remedy for it was tried"
    if verdict.notes:
        yield ""
        yield "Other observations, and no reason to change anything:" if verdict.solved else "Other observations:"
        yield ""
        for finding in verdict.notes:
            yield f"- **{finding.title}.** {finding.description}"
            yield from _evidence(finding)
    if tried:
        yield ""
        yield "| tried | loss × | |"
        yield "|---|---|---|"
        for one in sorted(tried.values(), key=lambda one: one.effect.value):
            yield f"| {one.remedy}: `{' '.join(one.overrides)}` | {_effect(one)} | {_judgement(one)} |"


def _effect(one: TriedRemedy) -> str:
    if one.effect.value > DIVERGED:
        return "diverges, or cannot be trained"
    return str(one.effect) if one.seeds > 1 else number(one.effect.value)


def _judgement(one: TriedRemedy) -> str:
    if one.seeds == 1:
        return "one trial"
    return "helps" if one.helps else "harms" if one.effect.low > 1 else "no certain effect"


def _evidence(finding: Finding) -> Iterator[str]:
    return (f"    - {evidence.quantity}: {evidence.interval}" for evidence in finding.evidence)


def _best(tried: Sequence[TriedRemedy]) -> str:
    best = min(tried, key=lambda one: one.effect.value)
    names = ", ".join(one.remedy for one in tried)
    if not best.helps:
        return f"tried: {names}; none with a certain effect"
    return (
        f"best of {names}: {best.remedy}, loss × {best.effect}"
        if len(tried) > 1
        else (f"remedy: {best.remedy}, loss × {best.effect}")
    )


def trial_of_advice(advice: TriedRemedy) -> str:
    """Returns what the advice brought in trials, at which length, and what it costs."""
    seeds = f"{advice.seeds} seed{'s' * (advice.seeds > 1)}"
    times = f"{number(advice.length)} times as many timesteps" if advice.length != 1 else "as many timesteps"
    cost = f"{number(advice.cost)} times the time" if not 0.75 < advice.cost < 1.5 else "about the same time"
    text = (
        f"In trials of {part_of_length(advice.part)} ({seeds}), this brought the loss to {advice.effect} of what it "
        f"was, on {times}, in {cost}."
    )
    if advice.part < 1:
        text += " There was no time to try it at its whole length: it may do less there; allow more with --seconds."
    return text


def config_reminder(verdict: Verdict) -> str:
    """Returns which config files the command needs that are not in seqrnn's own conf/; empty if none."""
    files = unknown_config_files(verdict.command or "")
    return f"Add the --config-dir or hydra.searchpath that has {', '.join(files)}." if files else ""


def to_markdown(diagnosis: Diagnosis) -> str:
    """Returns diagnosis.md."""
    return "\n".join(_page(diagnosis)) + "\n"


def _page(diagnosis: Diagnosis) -> Iterator[str]:
    verdict = diagnosis.verdict
    yield f"# Diagnosis: {diagnosis.task} with {diagnosis.model}"
    yield ""
    yield summary(verdict)
    yield ""
    if verdict.command and verdict.advice:
        yield "## What to do"
        yield ""
        yield f"    {verdict.command}"
        yield ""
        if reminder := config_reminder(verdict):
            yield reminder
            yield ""
        yield trial_of_advice(verdict.advice)
        yield ""
    elif verdict.no_advice:
        yield f"No line to run next was found. {verdict.no_advice}"
        yield ""
    yield f"Brackets hold {diagnosis.level:.0%} confidence intervals. {verdict.trials_note}"
    yield ""
    yield "## What was measured"
    yield ""
    yield "![What was measured](diagnosis.png)"
    for name, result in diagnosis.results.items():
        yield ""
        yield f"### {name.capitalize().replace('_', ' ')}"
        yield ""
        yield "| | |"
        yield "|---|---|"
        yield from (f"| {key} | {value} |" for key, value in _rows(result))
    if diagnosis.missing:
        yield ""
        yield "## What was not measured"
        yield ""
        yield from (f"- {name.replace('_', ' ')}: {reason}" for name, reason in diagnosis.missing.items())


def _rows(record: Record, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields names and values for a table; lists of numbers are left out."""
    for key, value in record:
        yield from _row(f"{prefix}{key.replace('_', ' ')}", value)


def _row(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Interval):
        yield name, _interval(name, value)
    elif isinstance(value, Record):
        yield from _rows(value, f"{name}: ")
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _row(f"{name}: {key}", part)
    elif isinstance(value, list) and value and all(isinstance(part, Record) for part in value):
        for part in value:
            yield from _rows(part, f"{getattr(part, 'name', name)}, ")
    elif isinstance(value, bool | str) or value is None:
        yield name, "–" if value is None else str(value)
    elif isinstance(value, int | float):
        yield name, number(value)


def _interval(name: str, interval: Interval) -> str:
    if name == "decoding: reach" and interval.value < 0:
        return "not even the present can be decoded"
    return str(interval)
