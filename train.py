"""Trains a GAN: `python train.py --help`."""

from pathlib import Path

from forger.app.cli import main

if __name__ == "__main__":
    main.run("train", Path(__file__).parent / "configs")
