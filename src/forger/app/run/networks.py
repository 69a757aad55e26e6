"""Builds the task of a run: its two networks, and what the condition tells them.

Imports no Lightning, so that what only samples from a generator need not wait for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig
from torch import nn

from forger.app.run.instantiate import instantiate, takes, target_of
from forger.augment import Augment
from forger.conditions import Condition
from forger.errors import ConfigError
from forger.losses import AdversarialLoss
from forger.networks.conditional import LabelBesideNoise, LabelPlanes
from forger.tasks import Task
from forger.tasks.base import BATCH_NORMS

LABEL_DIM = 32  # of an embedding beside the noise, unless condition.label_dim says otherwise


def build_task(
    cfg: DictConfig,
    generator: nn.Module,
    discriminator: nn.Module,
    condition: Condition,
    loss: AdversarialLoss | None,
    augment: Augment | None = None,
) -> Task:
    """Builds the game of the two networks, and gives it what it asks for of the other parts."""
    offered = {"loss": loss, "condition": condition, "augment": augment, "prior": cfg.model.prior}
    target = target_of(cfg.task)
    facts = {name: part for name, part in offered.items() if takes(target, name)}
    if "condition" not in facts and condition.classes:
        raise ConfigError(f"condition: {cfg.task._target_} takes none; write condition=none")
    if "augment" not in facts and type(augment) not in (Augment, type(None)):
        raise ConfigError(f"augment: {cfg.task._target_} takes none; write augment=none")
    if "prior" not in facts and cfg.model.prior != "normal":
        raise ConfigError(
            f"model.prior={cfg.model.prior}: {cfg.task._target_} draws no noise by it; leave it out"
        )
    task: Task = instantiate(
        cfg.task, Task, "task", generator=generator, discriminator=discriminator, **facts
    )
    return task


def build_condition(cfg: DictConfig, classes: Sequence[str]) -> Condition:
    """Builds what networks are given beside noise and images; `classes` are names of the data's."""
    facts = {"classes": list(classes)} if takes(target_of(cfg.condition), "classes") else {}
    condition: Condition = instantiate(cfg.condition, Condition, **facts)
    return condition


def build_generator(
    node: DictConfig, image_shape: tuple[int, int, int], condition: Condition
) -> nn.Module:
    """Builds G, which is told classes in its own way, or by an embedding beside its noise."""
    target, facts = target_of(node), {"image_shape": image_shape}
    count, how = len(condition.classes), condition.generator
    if how == "auto":
        has_norm = takes(target, "num_classes") and node.get("norm", "batch") == "batch"
        how = "batchnorm" if has_norm else "concat"
    if count and how == "concat":
        label_dim = condition.label_dim or LABEL_DIM
        size = _latent_dim(node, target) + label_dim
        return LabelBesideNoise(_network(node, facts | {"latent_dim": size}), count, label_dim)
    if count and condition.label_dim is not None:
        raise ConfigError(
            f"condition.label_dim={condition.label_dim}: is for condition.generator=concat; leave"
            " it out"
        )
    told = _told(target, condition, f"generator={how}", num_classes=count)
    network = _network(node, facts | told)
    has_norm = any(isinstance(module, BATCH_NORMS) for module in network.modules())
    if count and condition.generator == "batchnorm" and not has_norm:
        raise ConfigError(
            f"condition.generator=batchnorm: {type(network).__module__} has no BatchNorm; write"
            " condition.generator=auto, which is its own way"
        )
    return network


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
    count, how = len(condition.classes), condition.discriminator
    if count and how == "concat" and takes(target, "label_inputs"):
        return _network(node, facts | {"label_inputs": count})
    if count and how == "concat":
        channels, height, width = image_shape
        facts["image_shape"] = (channels + count, height, width)
        return LabelPlanes(_network(node, facts), count)
    told = _told(target, condition, f"discriminator={how}", num_classes=count, head=how)
    return _network(node, facts | told)


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
