"""A diagnosis in words (diagnosis.md) and in numbers (diagnosis.json)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from seqrnn.diagnosis.examination import Examination
from seqrnn.diagnosis.findings import Finding
from seqrnn.diagnosis.intervals import LEVEL, Interval, number
from seqrnn.diagnosis.remedies import not_ours
from seqrnn.diagnosis.subject import Subject
from seqrnn.diagnosis.verdict import Tried, Verdict

VERSION = 1  # of the format
DIVERGED = 1e6  # effect of a remedy


def to_values(found: Examination, verdict: Verdict, subject: Subject, seconds: float) -> dict[str, Any]:
    """All that was measured and said, as plain values."""
    return {
        "version": VERSION,
        "task": subject.values["task"]["name"],
        "model": subject.values["model"]["name"],
        "schedule": subject.values["schedule"],
        "level": LEVEL,
        "seconds": seconds,
        "verdict": asdict(verdict),
        "instruments": asdict(found),
    }


def summary(verdict: Verdict) -> str:
    """The verdict, in Markdown."""
    return "\n".join(_summary(verdict))


def _summary(verdict: Verdict) -> Iterator[str]:
    yield verdict.headline
    yield ""
    for place, cause in enumerate(verdict.causes, 1):
        yield f"{place}. **{cause.finding.title}.** {cause.finding.says}"
        yield from _evidence(cause.finding)
        if cause.tried:
            yield f"    - {_best(cause.tried)}"
    if verdict.notes:
        yield ""
        yield "Worth knowing, and no reason to change anything:" if verdict.solved else "Worth knowing:"
        yield ""
        for finding in verdict.notes:
            yield f"- **{finding.title}.** {finding.says}"
            yield from _evidence(finding)
    tried = {one.remedy: one for cause in verdict.causes for one in cause.tried}
    tried |= {one.remedy: one for one in verdict.others}
    if tried:
        yield ""
        yield "| tried | loss × | |"
        yield "|---|---|---|"
        for one in sorted(tried.values(), key=lambda one: one.effect.value):
            effect = "diverges, or cannot be trained" if one.effect.value > DIVERGED else str(one.effect)
            sure = "helps" if one.helps else "harms" if one.effect.low > 1 else "no sure effect"
            yield f"| {one.remedy}: `{' '.join(one.overrides)}` | {effect} | {sure} |"


def _evidence(finding: Finding) -> Iterator[str]:
    return (f"    - {evidence.what}: {evidence.measured}" for evidence in finding.evidence)


def _best(tried: Sequence[Tried]) -> str:
    best = min(tried, key=lambda one: one.effect.value)
    names = ", ".join(one.remedy for one in tried)
    if not best.helps:
        return f"tried: {names}; none with a sure effect"
    return (
        f"best of {names}: {best.remedy}, loss × {best.effect}"
        if len(tried) > 1
        else (f"remedy: {best.remedy}, loss × {best.effect}")
    )


def promise(advice: Tried) -> str:
    """What trials say of the advice, and what it costs."""
    cost = f", on {advice.length} times as many timesteps" if advice.length > 1 else ""
    return f"In trials, this brought the loss to {advice.effect} of what it was{cost}."


def to_markdown(found: Examination, verdict: Verdict, subject: Subject) -> str:
    """The whole page."""
    return "\n".join(_page(found, verdict, subject)) + "\n"


def elsewhere(verdict: Verdict) -> str:
    """What the line to run next does not say, if anything."""
    files = not_ours(verdict.command or "")
    return f"Add the --config-dir or hydra.searchpath that has {', '.join(files)}." if files else ""


def _page(found: Examination, verdict: Verdict, subject: Subject) -> Iterator[str]:
    yield f"# Diagnosis: {subject.values['task']['name']} with {subject.values['model']['name']}"
    yield ""
    yield summary(verdict)
    yield ""
    if verdict.command and verdict.advice:
        yield "## What to do"
        yield ""
        yield f"    {verdict.command}"
        yield ""
        if reminder := elsewhere(verdict):
            yield reminder
            yield ""
        yield promise(verdict.advice)
        yield ""
    yield f"Brackets hold {LEVEL:.0%} confidence intervals. Trials: {verdict.trials}"
    yield ""
    yield "## What was measured"
    yield ""
    yield "![What was measured](diagnosis.png)"
    for name, measured in asdict(found).items():
        if isinstance(measured, dict) and name != "missing":
            yield ""
            yield f"### {name.capitalize()}"
            yield ""
            yield "| | |"
            yield "|---|---|"
            yield from (f"| {key} | {value} |" for key, value in _rows(measured))
    if found.missing:
        yield ""
        yield "## What was not measured"
        yield ""
        yield from (f"- {name}: {reason}" for name, reason in found.missing.items())


def _rows(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """What fits into a table: no curves."""
    for key, value in values.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, dict) and set(value) == {"value", "low", "high"}:
            yield name, str(Interval(**value))
        elif isinstance(value, dict):
            yield from _rows(value, f"{name}: ")
        elif isinstance(value, list) and value and all(isinstance(part, dict) and "name" in part for part in value):
            for part in value:
                yield from _rows({k: v for k, v in part.items() if k != "name"}, f"{part['name']}, ")
        elif isinstance(value, bool) or value is None or isinstance(value, str):
            yield name, "–" if value is None else str(value)
        elif isinstance(value, int | float):
            yield name, number(value)
