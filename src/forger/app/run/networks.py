"""Builds the task of a run: its two networks, and what the condition tells them.

Imports no Lightning, so that what only samples from a generator need not wait for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from torch import nn

from forger.app.run.instantiate import instantiate, takes, target_of
from forger.augment import Augment
from forger.conditions import Condition
from forger.errors import ConfigError
from forger.losses import AdversarialLoss
from forger.networks.conditional import LabelBesideNoise, LabelPlanes
from forger.networks.with_text import WithText
from forger.tasks import Task
from forger.tasks.base import BATCH_NORMS
from forger.text import TextEncoder, TextFacts

LABEL_DIM = 32  # of an embedding beside the noise, unless condition.label_dim says otherwise
BACK, OF_SOURCES = "generator_back", "discriminator_source"  # of tasks that ask for two of each


class Shapes(NamedTuple):
    """What the data says of its images: channels, height and width.

    Attributes:
        image: of those that are made.
        source: of those that they are made from; None: there are none.
    """

    image: tuple[int, int, int]
    source: tuple[int, int, int] | None = None


def check_task(
    cfg: DictConfig, shapes: Shapes, condition: Condition, augment: Augment | None = None
) -> None:
    """Raises `ConfigError` where the task takes no part that was chosen, or lacks its sources."""
    task, generator = target_of(cfg.task), target_of(cfg.model.generator)
    name = cfg.task._target_
    if not takes(task, "condition") and condition.classes:
        raise ConfigError(f"condition: {name} takes none; write condition=none")
    if not takes(task, "augment") and type(augment) not in (Augment, type(None)):
        raise ConfigError(f"augment: {name} takes none; write augment=none")
    if not takes(task, "prior") and cfg.model.prior != "normal":
        raise ConfigError(
            f"model.prior={cfg.model.prior}: {name} draws no noise by it; leave it out"
        )
    translates = takes(generator, "source_shape")
    if shapes.source is None and (translates or takes(task, "source_shape")):
        who = name if takes(task, "source_shape") else cfg.model.generator._target_
        raise ConfigError(
            f"data: {who} translates sources, and {cfg.data._target_} has none; write"
            " data=paired_folder, for example, or task=from_noise with a model that takes noise"
        )
    if takes(task, "source_shape") and not translates:
        raise ConfigError(
            f"model.generator: {cfg.model.generator._target_} makes images from noise, and {name}"
            " translates sources; write model=unet_patchgan or model=resnet_patchgan"
        )


def build_task(
    cfg: DictConfig,
    networks: Mapping[str, nn.Module],
    shapes: Shapes,
    condition: Condition,
    loss: AdversarialLoss | None,
    augment: Augment | None = None,
    classes: Sequence[str] = (),
) -> Task:
    """Builds the game of the networks, and gives it what it asks for of the other parts."""
    parts = {"loss": loss, "condition": condition, "augment": augment, "prior": cfg.model.prior}
    parts["classes"] = classes
    offered = {**parts, "image_shape": shapes.image, "source_shape": shapes.source, **networks}
    facts = {name: part for name, part in offered.items() if takes(target_of(cfg.task), name)}
    task: Task = instantiate(cfg.task, Task, "task", **facts)
    return task


def build_generators(cfg: DictConfig, shapes: Shapes, condition: Condition) -> dict[str, nn.Module]:
    """Builds `generator`, and for a task that asks for it one for the way back."""
    node = cfg.model.generator
    made = {"generator": build_generator(node, shapes.image, condition, shapes.source)}
    if shapes.source is not None and takes(target_of(cfg.task), BACK):
        made[BACK] = build_generator(node, shapes.source, condition, shapes.image)
    return made


def build_discriminators(
    cfg: DictConfig, shapes: Shapes, condition: Condition, loss: AdversarialLoss | None
) -> dict[str, nn.Module]:
    """Builds `discriminator`, of pairs where the task says so, and for one that asks another."""
    node, task, judged = cfg.model.discriminator, target_of(cfg.task), shapes.image
    if shapes.source is not None and getattr(task, "judges_pairs", False):
        judged = (judged[0] + shapes.source[0], *judged[1:])
    made = {"discriminator": build_discriminator(node, judged, condition, loss)}
    if shapes.source is not None and takes(task, OF_SOURCES):
        made[OF_SOURCES] = build_discriminator(node, shapes.source, condition, loss)
    return made


def build_condition(
    cfg: DictConfig, classes: Sequence[str], texts: TextFacts | None = None
) -> Condition:
    """Builds what networks are given beside noise and images.

    Args:
        cfg: of the run.
        classes: names of the data's.
        texts: what the data's captions are, where they are given.
    """
    target = target_of(cfg.condition)
    facts: dict[str, Any] = {"classes": list(classes)} if takes(target, "classes") else {}
    if texts is not None:
        encoder = target_of(cfg.condition.encoder)
        learnt = {"vocabulary": texts.vocabulary} if takes(encoder, "vocabulary") else {}
        facts["encoder"] = instantiate(cfg.condition.encoder, TextEncoder, "text", **learnt)
        facts["prompts"] = texts.prompts
    settings: Any = OmegaConf.to_container(cfg.condition, resolve=True)
    settings = {name: value for name, value in settings.items() if name not in facts}
    condition: Condition = instantiate(settings, Condition, "condition", **facts)
    return condition


def build_generator(
    node: DictConfig,
    image_shape: tuple[int, int, int],
    condition: Condition,
    source_shape: tuple[int, int, int] | None = None,
) -> nn.Module:
    """Builds G, which is told classes in its own way, or by an embedding beside its noise."""
    facts, label_dim = generator_facts(node, image_shape, condition, source_shape)
    network, count = _network(node, facts), len(condition.classes)
    if condition.text_dim:
        return _with_text(network, condition)
    if label_dim:
        return LabelBesideNoise(network, count, label_dim)
    has_norm = any(isinstance(module, BATCH_NORMS) for module in network.modules())
    if count and condition.generator == "batchnorm" and not has_norm:
        raise ConfigError(
            f"condition.generator=batchnorm: {type(network).__module__} has no BatchNorm; write"
            " condition.generator=auto, which is its own way"
        )
    return network


def generator_facts(
    node: DictConfig,
    image_shape: tuple[int, int, int],
    condition: Condition,
    source_shape: tuple[int, int, int] | None = None,
) -> tuple[dict[str, Any], int]:
    """Returns what G is built with beside its settings, and the size of a class embedding.

    That stands beside the noise (`LabelBesideNoise`); 0: there is none.
    """
    target, facts = target_of(node), dict[str, Any](image_shape=image_shape)
    if takes(target, "source_shape"):
        facts["source_shape"] = source_shape
    if condition.text_dim:
        return facts | _told_text(target, condition), 0
    count, how = len(condition.classes), condition.generator
    if how == "auto":
        has_norm = takes(target, "num_classes") and node.get("norm", "batch") == "batch"
        how = "batchnorm" if has_norm else "concat"
    if count and how == "concat":
        label_dim = condition.label_dim or LABEL_DIM
        return facts | {"latent_dim": _latent_dim(node, target) + label_dim}, label_dim
    if count and condition.label_dim is not None:
        raise ConfigError(
            f"condition.label_dim={condition.label_dim}: is for condition.generator=concat; leave"
            " it out"
        )
    return facts | _told(target, condition, f"generator={how}", num_classes=count), 0


def build_discriminator(
    node: DictConfig,
    image_shape: tuple[int, int, int],
    condition: Condition,
    loss: AdversarialLoss | None,
) -> nn.Module:
    """Builds D, which is told of a gradient penalty if it asks.

    With `concat` it has inputs for a label if it asks, else planes beside the image.
    """
    target, facts = target_of(node), dict[str, Any](image_shape=image_shape)
    if takes(target, "gradient_penalty"):
        facts["gradient_penalty"] = loss is not None and bool(loss.penalties)
    if condition.text_dim:
        return _with_text(_network(node, facts | _told_text(target, condition)), condition)
    count, how = len(condition.classes), condition.discriminator
    if count and how == "concat" and takes(target, "label_inputs"):
        return _network(node, facts | {"label_inputs": count})
    if count and how == "concat":
        channels, height, width = image_shape
        facts["image_shape"] = (channels + count, height, width)
        return LabelPlanes(_network(node, facts), count)
    told = _told(target, condition, f"discriminator={how}", num_classes=count, head=how)
    return _network(node, facts | told)


def _told_text(target: Any, condition: Condition) -> dict[str, Any]:
    """Returns the size of a text's embedding for a network; `ConfigError` where it takes none."""
    if not takes(target, "text_dim"):
        name = getattr(target, "__qualname__", target)
        raise ConfigError(
            f"condition=text: {getattr(target, '__module__', '')}.{name} takes no text_dim, the"
            " size of a text's embedding; write model=dfgan"
        )
    return {"text_dim": condition.text_dim}


def _with_text(network: nn.Module, condition: Condition) -> nn.Module:
    """Puts before a network what embeds texts for it."""
    return WithText(network, condition.text_network())


def _network(node: DictConfig, facts: dict[str, Any]) -> nn.Module:
    network: nn.Module = instantiate(node, nn.Module, **facts)
    return network


def _told(target: Any, condition: Condition, how: str, **facts: Any) -> dict[str, Any]:
    """Returns what a network must know of classes; nothing where there are none.

    Raises:
        ConfigError: it does not ask for that.
    """
    if not condition.classes:
        return {}
    if lacking := [name for name in facts if not takes(target, name)]:
        side = how.partition("=")[0]
        name = getattr(target, "__qualname__", target)
        raise ConfigError(
            f"condition.{how}: {getattr(target, '__module__', '')}.{name} takes no"
            f" {' and no '.join(lacking)}; write condition.{side}=concat, which every network can"
        )
    return facts


def _latent_dim(node: DictConfig, target: Any) -> int:
    """Returns the size of the noise that a generator would be built with."""
    if "latent_dim" in node:
        return int(node.latent_dim)
    default = inspect.signature(target).parameters.get("latent_dim")
    if default is None or not isinstance(default.default, int):
        raise ConfigError(
            "condition.generator=concat: the generator must take latent_dim, which grows by the"
            " embedding of the class; write model.generator.latent_dim=<size>"
        )
    return default.default
