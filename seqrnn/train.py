"""python -m seqrnn.train task=integral model=gru: one run, from its config to its pictures."""

from __future__ import annotations

from seqrnn.cli.interrupts import exiting_at_once


def main() -> None:
    """Runs the ``seqrnn-train`` command."""
    with exiting_at_once():
        from seqrnn.cli import job, reporting
    reporting.run(job.command)


if __name__ == "__main__":
    main()
