"""python -m benchmarks: measures seqrnn against plain PyTorch and JAX, and prints tables.

Everything runs in turn (A B A B), on one thread of one core. Figures go to outputs/benchmarks/.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

from rich.console import Console

from benchmarks import machine, measure, report

SECTIONS = ("experiments", "limit", "kernels", "growth", "memory", "startup", "compile")
ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "performance.md"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {','.join(SECTIONS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; the figures mean little")
    parser.add_argument("--rounds", type=int, help="turns of each implementation (default: 3; quick: 1)")
    parser.add_argument("--share", type=float, default=1.0, help="train only the first updates: 0.1 is a tenth")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--data-dir", default="data", help="where MNIST/raw is; if nowhere, mnist_lstm is left out")
    parser.add_argument("--docs", action="store_true", help="put the tables and pictures into docs/performance.md")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks"), help="folder for the results")
    options = parser.parse_args()
    unknown = set(options.only.split(",")) - set(SECTIONS)
    if unknown:
        parser.error(f"--only: no such benchmark: {', '.join(sorted(unknown))} (there are: {', '.join(SECTIONS)})")
    return options


def main() -> None:
    options = arguments()
    console = Console()
    if not console.is_terminal:
        console = Console(width=118)
    core = measure.pin_to_one_core()
    folder = options.output / time.strftime("%Y-%m-%d_%H-%M-%S")
    has_digits = (Path(options.data_dir) / "MNIST" / "raw").is_dir()
    setup = measure.Setup(
        quick=options.quick,
        rounds=options.rounds or (1 if options.quick else 3),
        device=options.device,
        data_dir=str(Path(options.data_dir).resolve()) if has_digits else None,
        share=options.share,
        pictures=DOCUMENT.parent / "images" if options.docs else folder,
    )
    facts = machine.describe(options.device, core)
    console.print(machine.in_a_line(facts))
    if not has_digits:
        console.print(f"mnist_lstm is left out: no MNIST/raw in --data-dir={options.data_dir}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.only.split(","):
        section: report.Section = importlib.import_module(f"benchmarks.{name}").measure_section(setup)
        for table in section.tables:
            table.show(console)
        report.write(folder, name, section, facts)
        if options.docs:
            report.fill(DOCUMENT, name, f"{section.markdown()}\n\nMeasured on {machine.in_a_line(facts)}.")
    console.print(f"results in {folder}")


if __name__ == "__main__":
    main()
