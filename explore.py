"""Opens a page to look into a finished run: `python explore.py --help`."""

from pathlib import Path

from forger.app.cli import main

if __name__ == "__main__":
    main.run("explore", Path(__file__).parent / "configs")
