"""Configs that would run something if anything in them were called, and the places to put them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any


class Trap:
    """What a hostile file would do: each way leaves `sprung` in the folder.

    Args:
        folder: for the files that targets load or import.
    """

    def __init__(self, folder: Path) -> None:
        self.mark = folder / "sprung"
        touch = f"open({str(self.mark)!r}, 'w').close()"
        self.pickle = folder / "payload.pkl"
        self.payload = _Payload(str(self.mark))
        self.pickle.write_bytes(pickle.dumps(self.payload))
        self.script = folder / "evil_module.py"
        self.script.write_text(
            f"{touch}\nfrom torch import nn, load\nclass Net(nn.Module):\n    pass\n"
        )
        (folder / "hubconf.py").write_text(f"{touch}\ndef net():\n    pass\n")
        loaded, mark = str(self.pickle), str(self.mark)
        code = f"__import__('pathlib').Path({mark!r}).touch()"
        self.nodes: list[dict[str, Any]] = [
            {"_target_": "torch.load", "f": loaded, "weights_only": False},
            {"_target_": "torch.serialization.load", "f": loaded, "weights_only": False},
            {"_target_": "torch.jit.load", "f": loaded},
            {"_target_": "torch.save", "obj": {}, "f": mark},
            {"_target_": "torch.os.system", "command": f"touch {mark}"},
            {"_target_": "torch.hub.os.system", "command": f"touch {mark}"},
            {"_target_": "torch.hub.load", "repo_or_dir": str(folder), "model": "net"},
            {
                "_target_": "torch.hub.load",
                **{"repo_or_dir": str(folder), "model": "net", "source": "local"},
            },
            {"_target_": "torch.utils.model_zoo.load_url", "url": f"file://{loaded}"},
            {"_target_": "torchvision.datasets.utils.shutil.copy", "src": loaded, "dst": mark},
            {"_target_": "torchvision.io.write_file", "filename": mark},
            {"_target_": "lightning.pytorch.cli.LightningCLI", "run": False},
            {"_target_": "lightning.pytorch.trainer.trainer.os.system", "command": f"touch {mark}"},
            {"_target_": "lightning.fabric.utilities.cloud_io._load", "path_or_url": loaded},
            {"_target_": "forger.whole_files.write_whole", "path": mark, "content": ""},
            {
                "_target_": "forger.app.run.instantiate.instantiate",
                "node": {"_target_": "torch.load"},
            },
            {"_target_": "forger.app.run.record.subprocess.run", "args": ["touch", mark]},
            {"_target_": "shutil.copy", "src": loaded, "dst": mark},
            {"_target_": "shutil.copyfile", "_args_": [loaded, mark]},
            {"_target_": "os.system", "command": f"touch {mark}"},
            {"_target_": "os.mkdir", "path": mark},
            {"_target_": "posix.system", "command": f"touch {mark}"},
            {"_target_": "builtins.exec", "_args_": [code]},
            {"_target_": "builtins.eval", "_args_": [code]},
            {"_target_": "builtins.open", "file": mark, "mode": "w"},
            {"_target_": "io.open", "file": mark, "mode": "w"},
            {"_target_": "subprocess.Popen", "args": ["touch", mark]},
            {"_target_": "subprocess.check_output", "args": ["touch", mark]},
            {"_target_": "timeit.timeit", "stmt": code, "number": 1},
            {"_target_": "functools.partial", "_args_": [{"_target_": "shutil.copy"}]},
            {"_target_": "functools.reduce", "_args_": [{"_target_": "os.mkdir"}, [mark]]},
            {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path"}]},
            {"_target_": "operator.methodcaller", "_args_": ["touch"]},
            {"_target_": "pickle.load", "file": {"_target_": "io.open", "file": loaded}},
            {"_target_": "numpy.load", "file": loaded, "allow_pickle": True},
            {"_target_": "numpy.savetxt", "fname": mark, "X": [1]},
            {"_target_": "runpy.run_path", "path_name": str(self.script)},
            {"_target_": "importlib.import_module", "name": "evil_module"},
            {"_target_": "hydra.utils.instantiate", "config": {"_target_": "os.mkdir"}},
            {"_target_": "hydra.utils.get_method", "path": "evil_module.load"},
            {"_target_": "logging.FileHandler", "filename": mark},
            {"_target_": "evil_module.Net"},
            {"_target_": "evil_module.load", "f": loaded, "weights_only": False},
            {"_target_": ["os.system"], "command": f"touch {mark}"},
            {"_target_": {"_target_": "os.mkdir", "path": mark}},
        ]

    @property
    def sprung(self) -> bool:
        return self.mark.exists()


class _Payload:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.mark,)


# Keys of a run's config, each at another kind of place.
PLACES = (
    *("model.generator", "model.discriminator", "model.generator.hidden", "model.prior"),
    *("model.generator.hidden.0", "model.discriminator.norm", "model.generator.extra.deep.0.er"),
    *("loss", "loss.n_critic", "data", "data.batch_size", "data.extra", "data.0"),
    *("optimizer.generator", "optimizer.discriminator.lr", "optimizer.lr", "optimizer"),
    *("schedule.generator", "schedule.discriminator.start", "metrics.features", "metrics.splits"),
    *("trainer", "trainer.strategy", "trainer.plugins.0", "trainer.profiler", "trainer.logger"),
    *("callbacks.evil", "callbacks", "callbacks.samples.n", "callbacks.samples.extra", "logger"),
    *("logger.evil", "logger.evil.settings", "paths.cache_dir", "sweep.trial", "name", "extra"),
)


def put(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Puts a value into a plain config, in place of what is there."""
    node: Any = config
    *parents, last = key.split(".")
    for part, following in zip(parents, [*parents, last][1:], strict=True):
        fresh: Any = [None] if following.isdigit() else {}
        if part.isdigit():
            if not isinstance(node[int(part)], (dict, list)):
                node[int(part)] = fresh
            node = node[int(part)]
        else:
            if following.isdigit() or not isinstance(node.get(part), dict):
                node[part] = fresh
            node = node[part]
    node[int(last) if last.isdigit() else last] = value
    return config
