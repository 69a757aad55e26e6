"""Generates images from a finished run: `python generate.py --help`."""

from pathlib import Path

from forger.app.cli import main

if __name__ == "__main__":
    main.run("generate", Path(__file__).parent / "configs")
