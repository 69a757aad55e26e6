"""Whatever is typed ends in a config that builds, or in plain words; nothing is ignored."""

from __future__ import annotations

import inspect
import pickle
import re
import statistics
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_object
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from forger.app.config import compose
from forger.app.config.command import Command
from forger.app.run import build
from forger.app.run.checks import check_networks, check_updates
from forger.app.run.devices import choose_precision
from forger.errors import ConfigError

CONFIGS = Path(__file__).parents[3] / "configs"
GROUPS = (
    *("model", "loss", "data", "optimizer", "schedule", "trainer", "metrics", "logger"),
    *("task", "condition", "augment"),
)
PARTS = ("loss", "model", "data", "optimizer", "schedule", "condition", "augment")
EXAMPLES = [200, pytest.param(2_000, marks=pytest.mark.slow)]

# Each distinct set of these is composed once.
FILES = [
    *([f"{group}={path.stem}"] for group in GROUPS for path in (CONFIGS / group).glob("*.yaml")),
    *([f"experiment={path.stem}"] for path in (CONFIGS / "experiment").glob("*.yaml")),
    *([f"debug={path.stem}"] for path in (CONFIGS / "debug").glob("*.yaml")),
    ["data=mnist_sample", "model=dcgan"],
    ["data=mnist_sample", "loss=wgan_gp"],
    ["data=mnist_sample", "schedule=linear"],
    ["data=mnist_sample", "optimizer=sgd"],
    ["data=cifar10", "model=dcgan", "loss=r3gan"],
    ["trainer=ddp_cpu", "metrics=none"],
    ["data=mnist_sample", "condition=label"],
    ["data=mnist_sample", "condition=label", "loss=wgan_gp"],
    ["data=cifar10", "model=sngan", "condition=label"],
    ["data=mnist_sample", "augment=diffaugment"],
    ["data=mnist_sample", "augment=ada"],
    ["data=mnist_sample", "augment=ada", "augment.p=0.2", "loss=r3gan"],
    ["data=mnist_sample", "model=biggan", "condition=label"],
    ["data=mnist_sample", "model=r3gan", "model.width=16", "loss=r3gan", "condition=label"],
    ["loss=r3gan", "schedule=r3gan", "model.ema_half_life=1e5"],
]
WRONG = [
    *("model=dcgna", "model=hinge", "modle=dcgan", "loss=hing", "data=[mnist,cifar10]", "dcgan"),
    *("+model=dcgan", "++loss=hinge", "~model", "~loss", "~trainer", "~paths", "~seed", "~hydra"),
    *("model=dcgan,vanilla", "seed=0,1", "optimizer.lr=1e-4,2e-4", "loss=glob(*)", "logger=[]"),
    *("seed=1", "seed=2", "model=dcgan model=vanilla", "model@x=dcgan", "hydra.job.chdir=true"),
    *("hydra.run.dir=x", "+hydra.nonsense=1", "hydra.searchpath=[x]", "hydra.mode=MULTIRUN"),
    *("+model.generator.x=1", "+sede=1", "loss.gama=1", "+optimizer.word=3", "trainer.mex_steps=3"),
    *(
        "condition=lable",
        "condition=[none,label]",
        "~condition",
        "~task",
        "task=noise",
        "task=null",
    ),
    *("+condition.classes=[a,b]", "+model.generator.num_classes=3", "+task.prior=uniform"),
    *("condition.discriminator=heads", "condition._target_=torch.nn.Linear", "condition={}"),
    *("augment=difaugment", "~augment", "augment={}", "+task.augment=x", "augment.speed=1"),
    *("~callbacks.samples", "callbacks.progress=null", "~trainer.max_steps", "~loss.n_critic"),
    "+callbacks.mine={_target_:forger.callbacks.SampleGrid,n:4}",
    "+callbacks.mine={_target_:forger.callbacks.SampelGrid}",
    "+callbacks.mine={_target_:torch.nn.Linear}",
    "optimizer.generator._target_=torch.optim.AdamW",
    "loss._target_=torch.nn.BCELoss",
]
ADDED = [
    *(f"trainer.{flag}" for flag in inspect.signature(get_object("lightning.Trainer")).parameters),
    *("optimizer.generator.weight_decay", "optimizer.generator.foreach", "optimizer.generator.eps"),
    *("optimizer.generator.nesterov", "loss.gradient_penalty", "loss.gamma", "data.root"),
    *("condition.label_dim", "condition.labels", "condition.generator_weight", "condition.classes"),
    *("augment.p", "augment.policy", "augment.blit", "augment.target", "augment.fill"),
    *("model.discriminator.spectral", "model.discriminator.pool", "model.discriminator.head"),
    *("model.generator.class_dim", "model.generator.skip_noise", "model.generator.init"),
    *("schedule.penalty", "schedule.mine", "schedule.generator.images", "model.width"),
    *("model.generator.width", "model.generator.depth", "callbacks.samples.seed", "x", "x.y"),
]
VALUES = [
    *("0", "1", "2", "-1", "4", "64", "65", "5000", "99999999999999999999", "1_0", "0x1"),
    *("0.0", "0.5", "1.0", "1.5", "-0.5", "1e-4", "1e3", "1e400", "nan", "inf", "-inf"),
    *("true", "false", "null", "''", "abc", "auto", "none", "batch", "layer", "'64'", "gpu"),
    *("[]", "[1,2]", "[0.5,0.9]", "[16,8]", "[x]", "[[1]]", "{}", "{a:1}", "00:00:00:10"),
    *("${seed}", "${nope}", "${.x}", "${..}", "${", "${trainer.max_steps}", "${oc.env:NOPE}"),
    *("${loss}", "${hydra:job.num}", "${nope:1}", "${oc.env:NOPE,3}", "32-true", "16-mixed"),
]


@cache
def keys() -> list[str]:
    """All keys of the default config."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train")
    return sorted(_keys(OmegaConf.to_container(cfg, resolve=False), ""))


def _keys(node: Any, key: str) -> Iterator[str]:
    for name, value in node.items():
        path = f"{key}.{name}" if key else str(name)
        yield path
        if isinstance(value, dict):
            yield from _keys(value, path)


def misspelt(word: str) -> str:
    return word[:3] + word[4:] if len(word) > 4 else word + "x"


def words() -> st.SearchStrategy[list[str]]:
    sign = st.sampled_from(["", "", "", "", "", "", "+", "++", "~"])
    key = st.one_of(
        st.sampled_from(keys()),
        st.sampled_from(ADDED),
        st.sampled_from(keys()).map(misspelt),
    )
    setting = st.builds("{}{}={}".format, sign, key, st.sampled_from(VALUES))
    added = st.builds("++{}={}".format, st.sampled_from(ADDED), st.sampled_from(VALUES))
    garbage = st.text(alphabet="ab=.,:'\"[]{}()$~+@/\\ \n%é🙂-_0${}", max_size=10)
    nonsense = st.builds("{}={}".format, key, garbage)
    other = st.one_of(
        setting, setting, setting, added, st.sampled_from(WRONG), st.one_of(garbage, nonsense)
    )
    sane = st.sampled_from(SANE)
    few = st.one_of(st.lists(sane, max_size=4), st.lists(other, max_size=4))
    return st.builds(
        lambda files, rest: [*files, *rest][:6] or ["seed=1"],
        st.one_of(st.just([]), st.sampled_from(FILES)),
        few,
    )


SANE = [
    *("loss.n_critic=2", "loss.r1_gamma=1", "loss.r2_gamma=0.1", "loss.penalty_interval=4"),
    *("model.ema_decay=0", "model.prior=uniform", "model.accumulate.generator=2", "seed=7"),
    *("model.gradient_clip.discriminator=1.0", "model.discriminator.norm=layer", "seed=null"),
    *("model.discriminator.norm=batch", "model.discriminator.norm=spectral", "data.flip=true"),
    *("model.discriminator.norm=instance", "model.generator.latent_dim=8", "data.batch_size=16"),
    *("data.batch_size=1", "data.image_size=32", "data.image_size=33", "data.image_size=8"),
    *("optimizer.lr=1e-3", "optimizer.generator.lr=1e-3", "optimizer.betas=[0,0.9]"),
    *("+optimizer.generator.weight_decay=0.1", "trainer.max_steps=10", "trainer.max_epochs=-1"),
    *("trainer.max_time=00:00:01:00", "trainer.precision=bf16-mixed", "trainer.devices=2"),
    *("+trainer.limit_train_batches=0.5", "+trainer.overfit_batches=1", "trainer.threads=1"),
    *("+trainer.min_steps=3", "+trainer.benchmark=true", "trainer.deterministic=warn"),
    *("callbacks.samples.n=4", "~callbacks.samples", "name=mine", "dry_run=true"),
    *("condition=label", "condition=none", "condition.generator=concat", "task=from_noise"),
    *("condition.discriminator=concat", "condition.discriminator=auxiliary", "model=dcgan"),
    *("condition.labels=uniform", "condition.label_dim=4", "condition.generator=batchnorm"),
    *("condition.discriminator_weight=0.5", "condition.generator_weight=0", "model=sndcgan"),
    *("augment=diffaugment", "augment.fill=-1", "augment.policy=[color]", "augment=none"),
    *("loss.lecam=0.3", "loss.cr=1", "loss.cr_flip=false", "loss.zcr_d=1", "loss.lecam_start=0"),
    *("task.instance_noise=0.1", "task.instance_noise=-1", "data.train_limit=100"),
    *("augment=ada", "augment.p=0.5", "augment.color=0", "augment.cutout=1", "augment.interval=2"),
    *("model.generator.norm=none", "model.generator.width=16", "model.discriminator.width=16"),
    *("loss.path_length=2", "loss.path_length_interval=8", "model.discriminator.group_size=0"),
    *("model.generator.style_mixing=0", "model.generator.channel_max=8"),
    *("schedule.penalty={_target_:forger.schedules.Cosine,final:0.1}", "schedule=r3gan"),
    *("model.ema_half_life=1e5", "schedule.images=1000", "+schedule.beta2.iterations=9"),
    *("model.generator.hidden=[16,8]", "model.discriminator.hidden=[]", "loss.weight_clip=0.1"),
]


def _composed(config: str, chosen: list[str]) -> DictConfig | Exception:
    try:
        return hydra.compose(config, overrides=chosen, return_hydra_config=True)
    except Exception as error:
        return error


class Checked:
    """Runs the check, composing each set of files once, and remembers what it looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.composed: dict[tuple[str, ...], bytes | Exception] = {}  # pickled: soon copied
        self.configs: list[DictConfig] = []
        self.seconds: list[float] = []
        self._composing = 0.0
        self._find_problems = compose.find_problems
        monkeypatch.setattr(compose, "compose", self._compose)
        monkeypatch.setattr(compose, "find_problems", self._find)

    def __call__(self, *words: str) -> list[str]:
        self.configs.clear()
        self._composing, began = 0.0, time.process_time()
        found = compose.find_mistakes(Command(CONFIGS, "train", words))
        self.seconds.append(time.process_time() - began - self._composing)
        for cfg in self.configs:
            with open_dict(cfg):
                del cfg["hydra"]
        return found

    def _compose(self, config: str, overrides: list[str], return_hydra_config: bool) -> Any:
        began, key = time.process_time(), tuple(overrides)
        if key not in self.composed:
            composed = _composed(config, overrides)
            failed = isinstance(composed, Exception)
            self.composed[key] = composed if failed else pickle.dumps(composed)
        found = self.composed[key]
        result = found if isinstance(found, Exception) else pickle.loads(found)
        self._composing += time.process_time() - began
        if isinstance(result, Exception):
            raise result
        return result

    def _find(self, cfg: DictConfig, script: str) -> Any:
        self.configs.append(cfg)
        return self._find_problems(cfg, script)


@cache
def signature(target: str) -> inspect.Signature:
    return inspect.signature(get_object(target))


def targets(key: str, node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield key, node
        for name, value in node.items():
            yield from targets(f"{key}.{name}" if key else str(name), value)


def holds(node: Any, value: Any) -> bool:
    """Tells whether a value is there; a mapping is merged into what there was."""
    if isinstance(node, (DictConfig, ListConfig)):
        node = OmegaConf.to_container(node, resolve=False)
    if isinstance(value, dict) and isinstance(node, dict):
        return all(name in node and holds(node[name], item) for name, item in value.items())
    return type(node) is type(value) and (node == value or value != value)


def raw(cfg: DictConfig, key: str) -> Any:
    node: Any = cfg
    for part in key.split("."):
        assert part in node, f"{key} is not there"
        node = node._get_node(part)
    return node if isinstance(node, (DictConfig, ListConfig)) else node._value()


def assert_nothing_ignored(cfg: DictConfig, words: list[str]) -> None:
    parser = OverridesParser.create()
    for word in words:
        override = parser.parse_override(word)
        key = override.key_or_group
        is_file = (CONFIGS / key).is_dir() or key.startswith("hydra")
        if is_file:
            continue
        if override.is_delete():
            owner, _, name = key.rpartition(".")
            assert name not in (raw(cfg, owner) if owner else cfg), word
        else:
            assert holds(raw(cfg, key), override.value()), word
    plain = OmegaConf.to_container(cfg, resolve=False)
    for key, node in targets("", plain):
        given = {name: value for name, value in node.items() if not name.startswith("_")}
        if key == "trainer":
            del given["threads"]  # ours
        signature(node["_target_"]).bind_partial(**given)


def build_all(cfg: DictConfig, folder: Path) -> None:
    """Builds what a run builds; what contradicts is refused before anything is written."""
    seed = cfg.seed or 0
    data: Any = build.build_data(cfg, seed)
    classes = build.classes_of(cfg, data)
    shape, batch = build.image_shape_of(data, classes)
    assert batch is None
    gan = build.build_gan(cfg, shape, seed, classes, build.source_shape_of(data))
    check_networks(gan, shape)
    check_updates(gan, cfg.trainer)
    if cfg.data._target_.endswith("MNISTSample"):
        data.check_enough(gan.batches_per_iteration)
    cfg = cfg.copy()  # what is compared with afterwards stays
    choose_precision(cfg)
    build.build_trainer(cfg, folder, [], [])


def is_cheap(cfg: DictConfig) -> bool:
    """Leaves out what needs a download, other processes, or long to build."""
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    return (
        not plain["data"]["_target_"].endswith("ImageFolder")
        and plain["trainer"]["devices"] in (1, "auto")
        and "${hydra" not in str(plain)
    )


@pytest.fixture
def checked(
    monkeypatch: pytest.MonkeyPatch, gpus: Callable[[int], None], tmp_path: Path
) -> Checked:
    gpus(0)
    monkeypatch.delenv("NOPE", raising=False)
    return Checked(monkeypatch)


JARGON = re.compile(r"Traceback|\b[A-Z]\w*(Error|Exception)\b|<class|object at 0x")


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_command_ends_in_a_plan_or_in_plain_words(
    examples: int, checked: Checked, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    accepted: list[tuple[list[str], DictConfig]] = []
    tried: set[tuple[str, ...]] = set()

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(words())
    def try_it(words: list[str]) -> None:
        tried.add(tuple(words))
        found = checked(*words)
        for line in found:
            assert line.strip()
            assert not JARGON.search(line), line
        if not found and "hydra.mode=MULTIRUN" not in words:
            (cfg,) = checked.configs
            assert_nothing_ignored(cfg, words)
            accepted.append((words, cfg))

    try_it()
    assert len(tried) > examples * 0.8
    assert len(accepted) > examples * 0.1
    assert_they_build([cfg for _, cfg in accepted if is_cheap(cfg)], examples // 33, tmp_path)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for typed, cfg in accepted[:: len(accepted) // (examples // 50)]:
            composed = hydra.compose("train", [w for w in typed if not w.startswith("hydra.")])
            assert OmegaConf.to_container(composed, resolve=False) == OmegaConf.to_container(
                cfg, resolve=False
            ), typed
    # Of the process: other work on the machine does not count. A single one may still meet a
    # collection of garbage, or read a target's source for the first time.
    slow = statistics.quantiles(checked.seconds, n=20)[-1]
    print(
        f"checks: median {statistics.median(checked.seconds) * 1e3:.1f} ms, 95th percentile "
        f"{slow * 1e3:.1f} ms, longest {max(checked.seconds) * 1e3:.1f} ms; "
        f"{len(accepted)} of {len(checked.seconds)} accepted"
    )
    assert slow < 0.05


def assert_they_build(configs: list[DictConfig], count: int, folder: Path) -> None:
    """Builds about so many of them: what contradicts is told by its key, and leaves nothing."""
    assert len(configs) >= count
    chosen, refused = configs[:: len(configs) // count], []
    for cfg in chosen:
        try:
            build_all(cfg, folder)
        except ConfigError as error:
            refused.append(str(error))
    assert len(refused) < len(chosen) / 2
    for message in refused:
        for line in message.splitlines():  # "2 problems:", each below
            assert line.strip().startswith(PARTS) or line.endswith(" problems:"), message
    assert list(folder.iterdir()) == []
