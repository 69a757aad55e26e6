"""Checkpoint files of a run: their names, writing and reading; importing this loads no torch."""

FOLDER = "checkpoints"  # in the run folder
LAST, PREVIOUS, DAMAGED, BEST = "last.ckpt", "previous.ckpt", "damaged.ckpt", "best.ckpt"
