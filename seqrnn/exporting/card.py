"""The model card: what the exported network is, how to feed it, how good it is, and where it is from, in Markdown."""

from __future__ import annotations

import math
import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from seqrnn.errors import printable
from seqrnn.exporting.description import Description
from seqrnn.exporting.verification import Verified
from seqrnn.metrics import is_higher_better

TEMPLATE = "model_card.md.j2"
# Characters with a meaning in Markdown or HTML, where they can have it.
MARKUP = re.compile(r"""[&<>"'`*\[\]{}|~#!$\\@]|:(?=//)|(?<=www)\.|(?<![^\W_])_|_(?![^\W_])""", re.IGNORECASE)


def model_card(description: Description, verified: Verified, *, file: str, format: str, digest: str) -> str:
    """Returns the model card of an exported network. Texts from the run directory stand in it as plain text: none of
    them can become markup.

    Args:
        file: the name of the exported file.
        format: a name in ``seqrnn.exporting.formats.FORMATS``.
        digest: SHA-256 of the file.
    """
    environment = Environment(
        loader=PackageLoader("seqrnn.exporting", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        finalize=shown,
        autoescape=False,
    )
    environment.filters["code"] = lambda text: Markup(printable(text))  # a line in which nothing is markup
    environment.filters["python"] = lambda value: Markup(printable(repr(value)))
    return environment.get_template(TEMPLATE).render(
        d=description,
        verified=verified,
        file=file,
        format=format,
        digest=digest,
        beaten_by=_better_baselines(description),
        starts_with_zeros=all(part.initial == 0 for part in description.state),
    )


def shown(value: Any) -> str:
    """Returns a value as the card shows it: a number with four digits, and a text as nothing but text."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "not finite"
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", printable(str(value)))


def _better_baselines(description: Description) -> list[str]:
    """Returns the trivial predictors whose test score is at least as good as the network's."""
    metric = description.headline
    own = (description.scores or {}).get(metric)
    if own is None:
        return []
    sign = -1 if is_higher_better(metric, None) else 1
    scores = {name: scores.get(metric) for name, scores in description.baselines.items()}
    return [
        name
        for name, score in scores.items()
        if score is not None and not name.startswith("floor") and sign * score <= sign * own
    ]
