"""Checkpoint files of a run: their names, writing and reading; importing this loads no torch."""

FOLDER = "checkpoints"  # in the run folder
LAST, PREVIOUS, DAMAGED, BEST = "last.ckpt", "previous.ckpt", "damaged.ckpt", "best.ckpt"


def numbered(iteration: int) -> str:
    """Returns the name of a checkpoint that is kept of an iteration."""
    return f"iteration_{iteration}.ckpt"
