"""The model card of an export: README.md, with the fields that model hubs read.

What the records of a run say is written as plain text, since they may be anybody's.
"""

from __future__ import annotations

import json
from typing import Any

from omegaconf import DictConfig, OmegaConf

from forger.app.config.command import PATHS
from forger.app.run.load import Run
from forger.app.run.tables import describe_protocol, score_table
from forger.secrets import masked

_LIBRARIES = {"torch_export": "pytorch", "safetensors": "forger"}  # names that hubs know
_SPECIAL = ("truncation", "direction")
_SHOWN = 20  # names of classes


def model_card(cfg: DictConfig, run: Run, record: dict[str, Any], example: str) -> str:
    """Returns the text of README.md.

    Args:
        cfg: of export.py.
        run: what the checkpoint says.
        record: the content of `exported.json`.
        example: code of use, which runs in the folder of the export.
    """
    inputs = "".join(f"\n- {_port(one)}" for one in record["inputs"])
    network = _target(run, "model.generator").removeprefix("forger.networks.")
    special = "".join(f", {key} {record[key]}" for key in _SPECIAL if key in record)
    parts = [
        f"---\n{_front_matter(cfg, run)}\n---",
        f"# {network} on {_name(run, 'data')}",
        f"Made by forger {record['forger_version']}: {record['weights']} weights of iteration"
        f" {run.iteration:,}{special}. Its images differ from torch's by"
        f" {record['largest_difference']:.1g} at most, of 64 inputs, on [-1, 1].",
        f"## Use\n\n```python\n{example.strip()}\n```",
        f"## Interface\n\n`{record['file']}`, {record['bytes'] / 1e6:.1f} MB\n{inputs}"
        f"\n- gives {_port(record['output'])}",
        f"## Data\n\n{_data(run)}",
        f"## Recipe\n\n{_recipe(run)}",
        f"## Scores\n\n{_scores(cfg, run)}",
        f"## Licence\n\n{_plain(cfg.license)}",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(cfg: DictConfig, run: Run) -> str:
    translates = run.source_shape is not None
    task = _name(run, "task").lower().replace("fromnoise", "from-noise")
    fields = {
        "license": cfg.license,
        "library_name": _LIBRARIES.get(cfg.format, "onnx"),
        "pipeline_tag": "image-to-image" if translates else "unconditional-image-generation",
        "tags": ["gan", "forger", task, *["class-conditional"] * bool(run.classes)],
        "datasets": [_name(run, "data").lower()],
    }
    return "\n".join(f"{key}: {json.dumps(value)}" for key, value in fields.items())  # is YAML


def _port(one: dict[str, Any]) -> str:
    shape = ", ".join(map(str, one["shape"]))
    return f"`{one['name']}` {one['dtype']} ({shape}): {one['meaning']}"


def _data(run: Run) -> str:
    text = f"`{_target(run, 'data')}`, images {'x'.join(map(str, run.image_shape))}"
    if run.source_shape is not None:
        text += f" from sources {'x'.join(map(str, run.source_shape))}"
    if run.classes:
        shown = ", ".join(f"`{_plain(one)}`" for one in run.classes[:_SHOWN])
        more = ", ..." * (len(run.classes) > _SHOWN)
        text += f", {len(run.classes)} classes in this order: {shown}{more}"
    return f"{text}. Channels, height, width; pixels 0 to 255 were brought to [-1, 1]."


def _recipe(run: Run) -> str:
    """Returns what was typed, without paths and secrets, and the parts that it chose."""
    chosen = ("task", "model.generator", "model.discriminator", "loss", "condition", "augment")
    parts = [f"- {name}: `{_target(run, name)}`" for name in chosen]
    parts.append(f"- iterations: {run.iteration:,}")
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(run.folder / "overrides.yaml"))
        typed = [_without_path(one) for one in masked(map(str, content))]
    except Exception:  # missing, or anything else than a list
        return "\n".join(parts)
    command = "\n".join(["python train.py", *(f"  {_plain(one)}" for one in typed)])
    return f"{chr(10).join(parts)}\n\n```\n{command}\n```"


def _without_path(override: str) -> str:
    key, _, value = override.partition("=")
    return f"{key}=<path>" if key in PATHS or "/" in value or "\\" in value else override


def _scores(cfg: DictConfig, run: Run) -> str:
    """Returns the table of `scores.json` where it is of these weights."""
    name = "scores.json" if cfg.direction == "a_to_b" else f"scores_{cfg.direction}.json"
    try:
        record = json.loads((run.folder / name).read_text())
        protocol, of = record["protocol"], record["protocol"]["generated"]
        if (of["iteration"], of["weights"]) != (run.iteration, cfg.weights):
            return "Of these weights there are none: evaluate.py scored others."
        compared = "; ".join(describe_protocol(protocol).splitlines())
        text = f"{score_table(record).markdown()}\n\n`{_plain(compared)}`"
    except Exception:  # missing, of another version, or damaged
        return "Not measured: evaluate.py writes them into the run."
    return text + (" All without truncation." if cfg.truncation != 1 else "")


def _target(run: Run, key: str) -> str:
    return _plain(OmegaConf.select(run.cfg, f"{key}._target_") or "unknown")


def _name(run: Run, key: str) -> str:
    return _target(run, key).rpartition(".")[2]


def _plain(text: object) -> str:
    """Returns text in one line that stays text inside of code, in Markdown and in HTML."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return shown.replace("`", "'").replace("<", "(").replace(">", ")")
