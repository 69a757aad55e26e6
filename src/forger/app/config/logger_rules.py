"""Trackers whose package is not installed. Owns which need one, and imports none of them."""

from __future__ import annotations

import os
from importlib.util import find_spec

from forger.app.config.accepted import Findings, Select
from forger.app.config.facts import target_of
from forger.errors import install_command

_NEEDED = {  # class: packages, one of which must be there; extra that installs it
    "TensorBoard": (("tensorboard", "tensorboardX"), "tensorboard"),
    "TensorBoardLogger": (("tensorboard", "tensorboardX"), "tensorboard"),
    "MLflow": (("mlflow",), "mlflow"),
    "MLFlowLogger": (("mlflow",), "mlflow"),
}
_DATABASE = ("sqlalchemy", "alembic", "sqlparse")  # of MLflow without a server


def packages(select: Select) -> Findings:
    """Yields trackers of ours and Lightning's that cannot be built here."""
    members = select("logger")
    for name in members if isinstance(members, dict) else ():
        home, _, kind = target_of(select, f"logger.{name}").rpartition(".")
        if kind not in _NEEDED or not home.startswith(("forger.", "lightning.")):
            continue
        needed, extra = _NEEDED[kind]
        missing = [] if any(map(_there, needed)) else [needed[0]]
        if kind == "MLflow" and _is_local(select(f"logger.{name}.tracking_uri")):
            missing += [package for package in _DATABASE if not _there(package)]
        if missing:
            words = f"needs {', '.join(missing)}, which is not installed here; write"
            yield f"logger.{name}._target_", f"{words} {install_command(extra)}"


def _is_local(uri: object) -> bool:
    return uri is None and "MLFLOW_TRACKING_URI" not in os.environ


def _there(package: str) -> bool:
    return find_spec(package) is not None
