"""A program that decodes images for `forger.data.decoders`, which starts it.

It imports nothing of the package, as that would take seconds.
"""

from __future__ import annotations

import os
import pickle
import runpy
import sys
from pathlib import Path

from PIL import Image, ImageFile


def main() -> None:
    """Answers lists of paths with what `decode_all` returns, until there are no more."""
    decode = runpy.run_path(str(Path(__file__).with_name("decode.py")))
    decode["allow_large"]()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    try:
        form, limits = pickle.load(sys.stdin.buffer)
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = limits
        while True:
            paths = pickle.load(sys.stdin.buffer)
            pickle.dump(decode["decode_all"](paths, form), answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
    except (EOFError, BrokenPipeError):  # the other process has ended, or needs no more
        os._exit(0)  # without an attempt to flush


if __name__ == "__main__":
    main()
