"""The texts of `generate.py`: what a user types, or the lines of a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

from omegaconf import DictConfig, ListConfig

from forger.app.config.messages import given
from forger.errors import ConfigError, UserError
from forger.sampling.sampler import Sampler

_SHOWN = 8  # held-out captions, where the user gives no text


def find_texts(cfg: DictConfig, sampler: Sampler) -> list[str]:
    """Returns the texts to show images of; none where the run has no condition of texts.

    Words that mean nothing to the run are told in the log.

    Raises:
        UserError: the run takes no texts, one is empty or means nothing, or the file cannot be
            read.
    """
    prompts = sampler.condition.prompts
    asked = [*as_list(cfg.text), *_lines(cfg.text_file)]
    for key in ("text", "text_file", "walk.texts"):
        wanted = cfg.walk.texts if key == "walk.texts" else cfg[key]
        if wanted is not None and not prompts:
            refusal = "the run was trained without texts; leave it out"
            raise ConfigError(f"{given(key, wanted)}: {refusal}")
    if asked or cfg.walk.texts:
        sampler.condition.read({"text": [*asked, *as_list(cfg.walk.texts)]}, 1)
    return asked or [*as_list(cfg.walk.texts)] or [*prompts[:_SHOWN]]


def name_of_texts(cfg: DictConfig) -> str:
    """Returns what the name of a folder says of the texts."""
    texts = "\n".join([*as_list(cfg.text), *_lines(cfg.text_file), *as_list(cfg.walk.texts)])
    return f"_text_{crc32(texts.encode()):08x}" if texts else ""


def as_list(texts: str | ListConfig | None) -> Sequence[str]:
    """Returns what is one text, several or none as a list."""
    if texts is None:
        return []
    return [texts] if isinstance(texts, str) else [str(one) for one in texts]


def _lines(file: str | None) -> list[str]:
    """Returns the lines of a file that are not empty."""
    if file is None:
        return []
    path = Path(file).expanduser()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"text_file={file}: cannot be read: {reason}") from None
    if not (found := [line.strip() for line in lines if line.strip()]):
        raise UserError(f"text_file={file}: holds no text; write one on each line")
    return found
