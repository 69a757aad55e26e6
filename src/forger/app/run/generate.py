"""`generate(cfg)` samples the generator of a run into image files."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import Tensor

import forger
from forger.app.config.messages import given, near, nearest
from forger.app.run.devices import pick_device, threads
from forger.app.run.latent_pictures import check_latent, draw_directions, write_projections
from forger.app.run.load import Run, load_sampler
from forger.app.run.output_folder import check_replaceable, output_folder, replaced
from forger.app.run.texts import as_list, find_texts, name_of_texts
from forger.app.run.translate import (
    Inputs,
    directed,
    find_inputs,
    name_of,
    write_translations,
)
from forger.app.run.walk_picture import draw_walk, plan_walk
from forger.errors import ConfigError, UserError
from forger.pictures import image_grid, pixel_grid, png_bytes
from forger.sampling.sampler import CHUNK, Sampler, chunk_sizes, grid_places
from forger.sampling.translator import Translator

log = logging.getLogger(__name__)

GRID = 400  # images in grid.png, at most
_IMAGES = 64  # unless n says so
_RECORD = "generated.json"  # stands in every folder that generate.py wrote
_OF_A_TEXT = 8  # images of each text, unless n says so
_PICTURES = ("grid.png", "images.npz", "noise.npz", "walk.gif", "walk.mp4", "directions.png")
_OURS = re.compile(
    rf"images|images/\d{{6,}}\.png|generated\.json|{'|'.join(map(re.escape, _PICTURES))}"
)
_PLAIN = re.compile(r"[\w-]{1,40}", re.ASCII)  # names of classes that every file system takes
_LONGEST = 80  # letters of all of them in the name of a folder


def generate(cfg: DictConfig) -> Path:
    """Samples a run's generator and returns the folder that holds the pictures.

    It writes `images/000000.png` and so on, which scoring tools read, `grid.png` with the first 400
    at most, and `generated.json`, which says what they come from. `npz` adds `images.npz`, `walk`
    adds `walk.gif`, or as `film` says `walk.mp4`, in which 16 images wander through latent space or
    from class to class and come back. The same settings on the same device give the same bytes.

    A run with classes gives `n` images of each class of `label`, or of all, one class after the
    other, with a row for each in the grid; they are the seed's first images in order, so that the
    noise differs in all.

    A run with texts gives `n` images of each of `text` and of the lines of `text_file`, 8 of each
    of its first held-out captions where there are none; else as with classes.

    A run that translates does so with held-out sources, which stand beside the images in the grid,
    or with the user's own images of `input`. `project` writes what the generator makes nearest to
    the user's images in their place, `directions` adds `directions.png`.

    Args:
        cfg: composed from `configs/generate.yaml`. `output` is replaced as a whole, or left as it
            was if anything fails; the default is `<run>/generated/<checkpoint>_<weights>_seed<n>`,
            with `_label<label>`, `_truncation<truncation>`, `_dropout`, `_b_to_a`, `_project` and
            the name of `input` or `project` behind where they are given.

    Raises:
        UserError: a setting, the run or the folder cannot work; nothing was written.
    """
    inputs = None if cfg.input is None else find_inputs(cfg.input)
    inputs = inputs if cfg.project is None else find_inputs(cfg.project, "project")
    device = pick_device(cfg.device)
    trust, moved = cfg.get("trust") or (), cfg.get("moved")
    run, sampler = load_sampler(cfg.run, cfg.checkpoint, cfg.weights, trust, moved)
    sampler = directed(sampler, cfg).to(device).truncated(cfg.truncation)
    classes = _classes(sampler, "label", cfg.label) or sampler.condition.present()
    labels = _classes(sampler, "walk.labels", cfg.walk.labels)
    texts = find_texts(cfg, sampler)
    between = as_list(cfg.walk.texts)
    route = plan_walk(sampler, cfg.walk.noise, labels, classes, between, texts)
    _check_latent(cfg, sampler)
    output = _output(cfg, run, classes, inputs)
    _check_replaceable(output, inputs)
    log.info("run             %s, iteration %s", near(run.checkpoint), f"{run.iteration:,}")
    log.info("generator       %s weights, on %s", cfg.weights, device)
    with threads(cfg.threads), replaced(output) as folder:
        record = _record(cfg, run, device, classes)
        record |= _write(cfg, folder, sampler, classes, inputs, texts)
        if route is not None:
            film = draw_walk(sampler, cfg.seed, cfg.frames, route, cfg.film)
            (folder / f"walk.{cfg.film}").write_bytes(film)
        if cfg.directions is not None:
            where = cfg.seed, cfg.directions, cfg.reach, classes[0] if classes else None
            picture, method = draw_directions(sampler, *where)
            (folder / "directions.png").write_bytes(picture)
            record["directions"] = {"n": cfg.directions, "reach": cfg.reach, "method": method}
        (folder / _RECORD).write_text(json.dumps(record, indent=2) + "\n")
    each = " of each class" if classes and inputs is None else ""
    each = " of each text" if texts and inputs is None else each
    count = len(record.get("translated", ())) or record["n"]
    log.info("images          %s%s in %s", f"{count:,}", each, near(output / "images"))
    for name in _PICTURES:
        if (output / name).is_file():
            log.info("%-15s %s", name, near(output / name))
    return output


def _check_latent(cfg: DictConfig, sampler: Sampler) -> None:
    """Refuses what looks into latent space, of a run that has none, or of several classes."""
    if cfg.project is not None:
        check_latent(sampler, given("project", cfg.project))
        if isinstance(cfg.label, ListConfig) and len(cfg.label) > 1:
            raise ConfigError(
                f"{given('label', list(cfg.label))}: images are projected into one class, or with"
                " label=null into the one that fits best"
            )
    if cfg.directions is not None:
        check_latent(sampler, f"directions={cfg.directions}")


def _write(
    cfg: DictConfig,
    folder: Path,
    sampler: Sampler,
    classes: Sequence[int],
    inputs: Inputs | None,
    texts: Sequence[str],
) -> dict[str, Any]:
    """Writes the images and their grid; returns what the record says of a user's input."""
    if inputs is None:
        n = cfg.n or (_OF_A_TEXT if texts else _IMAGES)
        write_images(folder, sampler, n, cfg.seed, cfg.npz, classes, texts)
        return {"texts": list(texts), "n": n} if texts else {}
    for name in inputs.left_out:
        log.info("left out        %s: no image", name)
    if cfg.project is not None:
        label = None if cfg.label is None else classes[0]
        record = write_projections(folder, sampler, inputs, label, cfg.seed)
        return {"classes": {}, **record} if classes else record
    assert isinstance(sampler, Translator), "`directed` refuses others"
    return write_translations(folder, sampler, inputs, cfg.n or 1, cfg.seed)


def write_images(
    folder: Path,
    sampler: Sampler,
    n: int,
    seed: int,
    npz: bool,
    classes: Sequence[int] = (),
    texts: Sequence[str] = (),
) -> None:
    """Writes the seed's first images, their grid, and on request the array of them all.

    Args:
        folder: there is nothing in it.
        sampler: of the generator.
        n: images; of each class, or each text, where there are any.
        seed: of the noise.
        npz: whether to write the array.
        classes: their numbers, in the order of the images.
        texts: the texts, in the order of the images.
    """
    (folder / "images").mkdir()
    labels = torch.tensor(classes, dtype=torch.int64).repeat_interleave(n)
    each = {"label": labels} if classes else {}
    if texts:
        each["text"] = sampler.condition.rows_of(texts).repeat_interleave(n, 0)
    total = n * (len(classes) or len(texts) or 1)
    places, columns = grid_places(len(classes) or len(texts), n, GRID)
    shown = torch.zeros(total, dtype=torch.bool).index_fill(0, places, True)
    in_grid: list[Tensor] = []
    arrays: list[Tensor] = []
    for number, size in enumerate(chunk_sizes(total)):
        rows = slice(number * CHUNK, number * CHUNK + size)
        wanted = {name: values[rows] for name, values in each.items()}
        pixels = sampler.chunk(number, size, seed, wanted)["image"].cpu()
        for index, image in enumerate(pixels, rows.start):
            (folder / "images" / f"{index:06d}.png").write_bytes(png_bytes(image))
        in_grid.append(pixels[shown[rows]])
        if npz:  # grey repeated, as scoring tools have three channels: (B, H, W, 3)
            arrays.append(pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1))
    named_rows = [*texts] or [sampler.condition.classes[number] for number in classes]
    names = named_rows if columns else []
    if isinstance(sampler, Translator):  # which shows sources, too
        grid = image_grid(*sampler.grid(min(n * sampler.beside, GRID), seed))
    else:
        grid = pixel_grid(torch.cat(in_grid), columns, names=names)
    (folder / "grid.png").write_bytes(png_bytes(grid))
    if npz:  # the name that ADM's evaluator reads (github.com/openai/guided-diffusion)
        named: Any = {"arr_0": torch.cat(arrays).numpy()}
        named |= {"labels": labels.numpy()} if len(labels) else {}
        np.savez(folder / "images.npz", **named)


def _classes(sampler: Sampler, key: str, wanted: Any) -> list[int]:
    """Returns the numbers of the classes that a setting names, none where it is null.

    Raises:
        ConfigError: one is unknown, had no training image, or is named twice under `label`.
    """
    if wanted is None:
        return []
    condition, found = sampler.condition, list[int]()
    for label in wanted if isinstance(wanted, ListConfig) else [wanted]:
        try:
            found += condition.read({"label": label}, 1)["label"].tolist()
        except ConfigError as error:
            is_known = str(label) in condition.classes
            hint = "" if is_known else nearest(str(label), condition.classes)
            raise ConfigError(("" if key == "label" else f"{key}: ") + f"{error}{hint}") from error
    if key == "label" and len(set(found)) < len(found):
        raise ConfigError(f"{given(key, list(wanted))}: names a class twice; leave one of them out")
    return found


def _output(cfg: DictConfig, run: Run, classes: Sequence[int], inputs: Inputs | None) -> Path:
    name = f"{run.checkpoint.stem}_{cfg.weights}_seed{cfg.seed}"
    if cfg.label is not None:
        name += f"_label{_as_file_name(classes, run.classes)}"
    name += name_of_texts(cfg)
    if cfg.truncation != 1:
        name += f"_truncation{cfg.truncation:g}"
    name += name_of(cfg, inputs)
    return output_folder(cfg, run.folder, "generated", name)


def _as_file_name(classes: Sequence[int], names: Sequence[str]) -> str:
    """Returns names of classes as part of the name of a folder, for these classes alone."""
    plain = [names[one] if _PLAIN.fullmatch(names[one]) else f"#{one}" for one in classes]
    joined = "+".join(plain)
    if len(joined) <= _LONGEST:
        return joined
    return f"s_{len(classes)}_{crc32(joined.encode()):08x}"


def _record(
    cfg: DictConfig, run: Run, device: torch.device, classes: Sequence[int]
) -> dict[str, Any]:
    """Says what the pictures come from, and of a run with classes which they are, in order."""
    walks = cfg.walk.noise or cfg.walk.labels is not None or cfg.walk.texts is not None
    own: dict[str, Any] = {
        "classes": {run.classes[one]: cfg.n or _IMAGES for one in classes},
        "walk": OmegaConf.to_container(cfg.walk),
    }
    return {
        "run": run.folder.name,
        "checkpoint": run.checkpoint.name,
        "iteration": run.iteration,
        "weights": cfg.weights,
        "seed": cfg.seed,
        "n": cfg.n or _IMAGES,
        **(own if classes else {}),
        **({"truncation": cfg.truncation} if cfg.truncation != 1 else {}),
        **({"direction": cfg.direction} if cfg.direction != "a_to_b" else {}),
        **({"dropout": True} if cfg.dropout else {}),
        "walk_frames": cfg.frames if walks else None,
        "device": device.type,
        "forger_version": forger.__version__,
    }


def _check_replaceable(folder: Path, inputs: Inputs | None) -> None:
    """Refuses a folder with anything in it that generate.py did not write, or is to read."""
    holds_input = inputs is not None and (inputs.path == folder or folder in inputs.path.parents)
    if holds_input and folder.is_dir():
        raise UserError(f"output={folder}: holds the input, and would be replaced as a whole")
    translated = _names_of_translated(folder / _RECORD)
    check_replaceable(
        folder, "generate.py", _RECORD, lambda name: name in translated or _OURS.fullmatch(name)
    )


def _names_of_translated(record: Path) -> set[str]:
    """Returns which images of a user's input generate.py says that it wrote."""
    try:
        content = json.loads(record.read_text())
        named = (*content.get("translated", ()), *content.get("projected", ()))
        return {f"images/{name}" for name in named}
    except (OSError, ValueError, AttributeError, TypeError):
        return set()
