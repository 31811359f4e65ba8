"""Turns what the report shows into one HTML file. jinja2 escapes every text, and a content security policy allows
nothing but the styles, the two scripts and the pictures within the file."""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from seqrnn.errors import ConfigError
from seqrnn.reports.content import Content
from seqrnn.rundir.strict_json import to_json

SCRIPTS = ("tables.js", "plots.js", "page.js")  # in this order, as one script
COMPRESSION = 4  # of the plotting library: 0.1 s
INSTALL = "pip install 'seqrnn[report]'"


def render(content: Content) -> str:
    """Returns the page.

    Raises:
        ConfigError: the plotting library is not installed.
    """
    library = plotting_library()
    script = "\n".join(_own(name) for name in SCRIPTS)
    environment = Environment(
        loader=PackageLoader("seqrnn.reports", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["json"] = lambda value: htmlsafe_json_dumps(value, dumps=_compact)
    return environment.get_template("page.html.j2").render(
        content=content,
        style=Markup(_own("page.css")),
        script=Markup(script),
        library=Markup(base64.b64encode(gzip.compress(library, COMPRESSION, mtime=0)).decode()),
        policy="; ".join(
            [
                "default-src 'none'",
                f"script-src '{_digest(script.encode())}' '{_digest(library)}'",
                "style-src 'unsafe-inline'",  # plotly sets styles of elements
                "img-src data: blob:",  # pictures; saving a plot as a picture
                "base-uri 'none'",
                "form-action 'none'",
            ]
        ),
    )


def plotting_library() -> bytes:
    """Returns plotly.js, which the Python package plotly brings with it; the package itself is not imported.

    Raises:
        ConfigError: it is not installed.
    """
    found = importlib.util.find_spec("plotly")
    path = Path(found.origin).parent / "package_data" / "plotly.min.js" if found and found.origin else None
    if path is None or not path.is_file():
        raise ConfigError(f"the report needs plotly, which is not installed: {INSTALL}")
    return path.read_bytes()


def _compact(value: Any, **_: Any) -> str:
    return to_json(value, separators=(",", ":"))


@cache
def _own(name: str) -> str:
    return resources.files("seqrnn.reports").joinpath(name).read_text(encoding="utf-8")


def _digest(script: bytes) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}"
