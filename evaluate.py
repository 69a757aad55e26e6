"""Scores finished runs: `python evaluate.py --help`."""

from pathlib import Path

from forger.app.cli import main

if __name__ == "__main__":
    main.run("evaluate", Path(__file__).parent / "configs")
