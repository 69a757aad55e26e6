"""What happens where something cannot be done: clear words on the page."""

from __future__ import annotations

import functools
from collections.abc import Callable
from html import escape
from typing import ParamSpec, TypeVar

import gradio as gr

from forger.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")


def told(work: Callable[P, R]) -> Callable[P, R]:
    """Shows a user's mistake in words, and no traceback."""

    @functools.wraps(work)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return work(*args, **kwargs)
        except UserError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from error

    return guarded
