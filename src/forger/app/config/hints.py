"""What to write for a setting that was given under a wrong name: `lr=0.1` is `optimizer.lr=0.1`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from forger.app.config.command import Command
from forger.app.config.messages import written
from forger.app.config.sections import GROUPS, SCRIPTS
from forger.app.config.signatures import signature_of
from forger.app.config.values import joined

_SHOWN = 3
# Names in use elsewhere, each with ours
_SYNONYMS = {
    **dict.fromkeys(("steps", "iterations", "iters", "max_iters", "total_steps"), "max_steps"),
    **dict.fromkeys(("num_steps", "n_steps", "max_iterations", "kimg"), "max_steps"),
    **dict.fromkeys(("epochs", "num_epochs", "n_epochs", "epoch"), "max_epochs"),
    **dict.fromkeys(("gpus", "num_gpus", "ngpu", "n_gpus", "num_processes"), "devices"),
    **dict.fromkeys(("device", "gpu", "cuda"), "accelerator"),
    **dict.fromkeys(("learning_rate", "lr_g", "lr_d"), "lr"),
    **dict.fromkeys(("beta1", "beta2", "adam_betas", "b1", "b2"), "betas"),
    **dict.fromkeys(("batch", "bs", "batchsize", "train_batch_size"), "batch_size"),
    **dict.fromkeys(("z_dim", "nz", "dim_z", "noise_dim", "latent_size", "zdim"), "latent_dim"),
    **dict.fromkeys(("img_size", "imsize", "resolution", "size"), "image_size"),
    **dict.fromkeys(("critic_iters", "n_dis", "d_steps", "num_critic"), "n_critic"),
    **dict.fromkeys(("gp", "lambda_gp", "gp_weight", "gp_lambda"), "gradient_penalty"),
    **dict.fromkeys(("clip", "clip_value", "clipping"), "weight_clip"),
    **dict.fromkeys(("fp16", "amp", "bf16", "mixed_precision"), "precision"),
    **dict.fromkeys(("data_dir", "dataroot", "data_root", "data_path"), "root"),
    **dict.fromkeys(("random_seed", "manual_seed"), "seed"),
    **dict.fromkeys(("num_images", "num_samples", "n_samples", "samples"), "n"),
    **dict.fromkeys(("out", "outdir", "output_dir", "out_dir"), "output"),
    **dict.fromkeys(("ckpt", "checkpoint_path", "ckpt_path", "run_dir"), "run"),
    **dict.fromkeys(("arch", "architecture", "network"), "model"),
    **{"ema": "ema_decay", "dataset": "data", "optim": "optimizer", "scheduler": "schedule"},
    **{"logdir": "log_dir", "save_dir": "log_dir"},
}


def what_to_write(cfg: DictConfig, folder: Path | None, key: str, value: Any) -> str | None:
    """Returns the setting that a wrong key means, with the value; `None` where none is known.

    Args:
        cfg: the composed config.
        folder: of the config files, to look in other choices too.
        key: as typed.
        value: as typed.
    """
    raw: Any = OmegaConf.to_container(cfg, resolve=False)
    raw.pop("hydra", None)
    leaves = {
        path: old
        for path, old in _leaves(raw, "")
        if path != key and ("." not in path or not isinstance(old, dict))
    }
    spelled = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower().replace("-", "_")
    names = [spelled.rpartition(".")[2]]
    names += [_SYNONYMS[names[0]]] if names[0] in _SYNONYMS else []
    found = [path for path in leaves if path.endswith(f".{spelled}")]
    for name in names:
        found = found or [path for path in leaves if path.rpartition(".")[2] == name]
    own = [path for path in found if not str(leaves[path]).startswith("${")] or found
    near = [path for path in own if path.partition(".")[0] == key.partition(".")[0]] or own
    nearest = sorted(near, key=lambda path: path.count("."))[:_SHOWN]
    listed = " or ".join(_worded(path, leaves[path], value) for path in nearest)
    listed = listed or _unlisted(raw, names, value)
    return listed or (_of_another_choice(folder, names, value) if folder else "") or None


def _worded(key: str, old: Any, value: Any) -> str:
    """Writes the value where it is of the type that stands there now; else shows that one."""
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (old, value))
    if isinstance(old, dict):
        return f"{key}=<choice>"
    if old is None or numbers or type(old) is type(value) or str(old).startswith("${"):
        return f"{key}={written(value)}"
    return f"{key}=<value>, which is {written(old)}"


def _unlisted(raw: Any, names: list[str], value: Any) -> str:
    """Looks among the arguments that the config's targets take and no file lists."""
    for path, target in _leaves(raw, ""):
        signature = signature_of(target) if path.endswith("._target_") else ""
        for name in names:
            if not isinstance(signature, str) and name in signature.parameters:
                return f"+{path.removesuffix('_target_')}{name}={written(value)}"
    return ""


def _of_another_choice(folder: Path, names: list[str], value: Any) -> str:
    """Looks in the files of groups for one that lists the setting."""
    found = []
    for path in sorted(folder.glob("*/*.yaml")):
        group = path.parent.name
        keys = _keys_of(path) if group in GROUPS else ()
        inside = (key for key in keys if key.rpartition(".")[2] in names)
        if (key := min(inside, key=lambda key: key.count("."), default=None)) is not None:
            found.append(f"{group}={path.stem} {group}.{key}={written(value)}")
    return " or ".join(found[:_SHOWN])


def other_homes(command: Command, key: str) -> list[str]:
    """Returns the choices whose file lists a setting of their group, such as `loss=r3gan`."""
    parts = key.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        group, inside = "/".join(parts[:depth]), ".".join(parts[depth:])
        files = sorted(command.config_dir.joinpath(group).glob("*.yaml"))
        homes = [f"{group}={path.stem}" for path in files if inside in _keys_of(path)]
        if homes and SCRIPTS[command.script].has_group(group):
            return homes
    return []


@cache
def _keys_of(path: Path) -> tuple[str, ...]:
    """Returns every setting that a file lists."""
    return tuple(key for key, _ in _leaves(OmegaConf.to_container(OmegaConf.load(path)), ""))


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yields every setting, sections among them."""
    for name, value in node.items() if isinstance(node, dict) else ():
        path = joined(key, name)
        yield path, value
        yield from _leaves(value, path)
