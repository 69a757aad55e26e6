"""Exports the generator of a finished run: `python export.py --help`."""

from pathlib import Path

from forger.app.cli import main

if __name__ == "__main__":
    main.run("export", Path(__file__).parent / "configs")
