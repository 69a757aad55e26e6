"""`export(cfg)` writes the generator of a run for other programs."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

import forger
from forger.app.config.messages import given, near
from forger.app.export.card import model_card
from forger.app.export.formats import Format, Onnx, TorchExport, line_of
from forger.app.export.page import Page
from forger.app.export.weights import Safetensors
from forger.app.run.devices import threads
from forger.app.run.load import Run, load_sampler
from forger.app.run.output_folder import check_replaceable, output_folder, replaced
from forger.errors import ConfigError, UserError
from forger.sampling.sampler import Sampler
from forger.sampling.translator import Translator

log = logging.getLogger(__name__)

FORMATS: dict[str, type[Format]] = {
    **{"onnx": Onnx, "torch_export": TorchExport},
    **{"safetensors": Safetensors, "html": Page},
}
_RECORD = "exported.json"  # stands in every folder that export.py wrote
_OURS = re.compile(r"generator\.(onnx|pt2|safetensors)|index\.html|README\.md|exported\.json")


def export(cfg: DictConfig) -> Path:
    """Writes the generator of a run, and returns the folder that holds it.

    In it are the file of `format`, `README.md`, the model card, and `exported.json`. What was
    written is read back, and its images are held against torch's, of 64 inputs.

    Args:
        cfg: composed from `configs/export.yaml`. `output` is replaced as a whole, or left as it was
            if anything fails; the default is `<run>/exported/<format>_<checkpoint>_<weights>`,
            with `_truncation<truncation>`, `_<pixels>` and `_b_to_a` behind where they are given.

    Raises:
        UserError: a setting, the run or the folder cannot work, the generator cannot be exported,
            or the export gives other images; nothing was written.
    """
    trust, moved = cfg.get("trust") or (), cfg.get("moved")
    run, sampler = load_sampler(cfg.run, cfg.checkpoint, cfg.weights, trust, moved)
    sampler = _directed(sampler, cfg.direction).truncated(cfg.truncation)
    output = _output(cfg, run)
    check_replaceable(output, "export.py", _RECORD, _OURS.fullmatch)
    log.info("run             %s, iteration %s", near(run.checkpoint), f"{run.iteration:,}")
    with threads(cfg.threads):
        kind = FORMATS[cfg.format](cfg, run, sampler)
        with replaced(output) as folder:
            record = _write(folder, cfg, run, kind)
    path, size = near(output / kind.file), f"{record['bytes'] / 1e6:.1f} MB"
    log.info("%-15s %s, %s", cfg.format, path, size)
    log.info("checked         differs from torch by %.1g at most", record["largest_difference"])
    log.info("model card      %s, licence %s", near(output / "README.md"), cfg.license)
    return output


def _write(folder: Path, cfg: DictConfig, run: Run, kind: Format) -> dict[str, Any]:
    """Writes and checks what the folder is to hold; returns the record."""
    path = folder / kind.file
    try:
        multiple = kind.write(path)
        difference = kind.exportable.largest_difference(kind.read(path), multiple)
    except OSError:  # of the disk
        raise
    except Exception as error:  # of exporters and somebody's network: whatever they like
        what = run.cfg.model.generator._target_
        reason = error if isinstance(error, UserError) else line_of(error)
        raise UserError(f"format={cfg.format}: {what} cannot be exported: {reason}") from error
    record = {
        **{"run": run.folder.name, "checkpoint": run.checkpoint.name, "iteration": run.iteration},
        **{"weights": cfg.weights, "format": cfg.format},
        **{"file": kind.file, "bytes": path.stat().st_size},
        **kind.exportable.ports(multiple),
        **({"truncation": cfg.truncation} if cfg.truncation != 1 else {}),
        **({"direction": cfg.direction} if cfg.direction != "a_to_b" else {}),
        **{"largest_difference": difference, "license": cfg.license},
        "forger_version": forger.__version__,
    }
    card = model_card(cfg, run, record, kind.example())
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / _RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return record


def _directed(sampler: Sampler, direction: str) -> Sampler:
    if direction == "a_to_b":
        return sampler
    if not isinstance(sampler, Translator):
        raise ConfigError(
            f"{given('direction', direction)}: the run translates no images; leave it out"
        )
    return sampler.reversed()


def _output(cfg: DictConfig, run: Run) -> Path:
    name = f"{cfg.format}_{run.checkpoint.stem}_{cfg.weights}"
    name += f"_truncation{cfg.truncation:g}" if cfg.truncation != 1 else ""
    name += f"_{cfg.pixels}" if cfg.pixels else ""
    name += f"_{cfg.direction}" if cfg.direction != "a_to_b" else ""
    return output_folder(cfg, run.folder, "exported", name)
