"""Takes the screenshots of a report that docs/report.md shows, in a headless Chromium:

python -m benchmarks.screenshots SWEEP_DIR/report.html docs/images/report_40
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1280, 2360
COLOURS = 200  # of a picture, so that it stays small


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes PREFIX_light.png and PREFIX_dark.png."""
    parser = argparse.ArgumentParser("python -m benchmarks.screenshots", description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("prefix", type=Path, help="of the paths of the pictures")
    options = parser.parse_args(arguments)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            context = browser.new_context(
                offline=True,
                viewport={"width": WIDTH, "height": HEIGHT},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            page = context.new_page()
            page.goto(options.report.absolute().as_uri())
            while not page.evaluate("figures.ready"):
                page.wait_for_timeout(100)
            page.evaluate("figures.drawAll()")
            page.wait_for_timeout(2000)  # the plots take their sizes
            image = Image.open(io.BytesIO(page.screenshot()))
            path = options.prefix.with_name(f"{options.prefix.name}_{scheme}.png")
            image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
            print(path, f"{path.stat().st_size / 1000:.0f} kB")
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
