"""From a node of a config to the object that it describes. Owns that step, not what is made.

Imports nothing heavy itself, so that what only rebuilds a network need not wait for a Trainer.
"""

from __future__ import annotations

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from forger.errors import UserError


def make(node: Any, **runtime: Any) -> Any:
    """Builds the object that a node describes, with plain containers inside.

    Raises:
        UserError: the object's own, without Hydra's wrapping.
    """
    try:
        return instantiate(node, _convert_="all", **runtime)
    except InstantiationException as error:
        if isinstance(error.__cause__, (UserError, ImportError)):
            raise error.__cause__ from None
        raise
