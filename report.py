"""Writes the report of a run, a sweep or several runs: `python report.py --help`."""

from pathlib import Path

from forger.app.cli import main

if __name__ == "__main__":
    main.run("report", Path(__file__).parent / "configs")
