"""Small copies of the pictures of runs, as data: URLs. The pictures may come from anyone."""

from __future__ import annotations

import base64
import io
import warnings
from pathlib import Path

from PIL import Image

from seqrnn.errors import DataError
from seqrnn.rundir.bounded import opened, resolve_inside

MOST_BYTES, MOST_PIXELS = 2**23, 2**24  # of a picture
WIDTH, HEIGHT = 720, 720  # of a small copy, at most
QUALITY = 72


def thumbnail(directory: Path, name: str) -> str:
    """Returns a small copy of a PNG file of a run directory, as a data: URL of a WebP file.

    Raises:
        DataError: it is no PNG file, or is larger than pictures of runs are.
    """
    path = resolve_inside(directory, name)
    with opened(path, MOST_BYTES) as file, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(file, formats=["PNG"])
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"it has {image.width:,} x {image.height:,} pixels; {MOST_PIXELS:,} are the most")
        small: Image.Image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        small.thumbnail((WIDTH, HEIGHT), Image.Resampling.HAMMING)  # half the time of LANCZOS
    if small.mode == "RGBA":
        paper = Image.new("RGBA", small.size, "white")
        small = Image.alpha_composite(paper, small).convert("RGB")
    content = io.BytesIO()
    small.save(content, "WEBP", quality=QUALITY, method=0)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"


def try_thumbnail(directory: Path, name: str, problems: dict[str, str]) -> str | None:
    """Returns a small copy of a picture; None if there is none that can be read, and why in ``problems``."""
    if not (directory / name).is_file():
        return None
    try:
        return thumbnail(directory, name)
    except DataError as error:
        problems[str(directory / name)] = "; ".join(error.problems)
        return None
