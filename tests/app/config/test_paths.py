"""Paths of every spelling: understood as typed, printed as one may type them, kept absolute."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from forger.app.config.command import text_of, with_path_quoted
from forger.app.config.messages import setting, typed
from forger.app.config.settings import with_absolute_paths

NAMES = [
    *("a=1,b=2", "[x]", "{x}", "(x)", "it's", 'say "x"', "two words", "a:b", "$HOME", "${x}", "~x"),
    *("é", "日本", "#1", "a;b", "a&b", "back\\slash", "end\\", "q\\'", "`x`", "!x", "*?", "100%"),
    *("null", "true", "12", "1e3", "inf", "-x", "a\tb", "a,", "=", "<x>", "|", "x:"),
]
parser = OverridesParser.create()


@pytest.mark.parametrize("name", NAMES)
def test_a_printed_setting_can_be_typed(name: str) -> None:
    word = setting("run", name)
    assert OmegaConf.create({"run": parser.parse_override(word).value()}).run == name
    assert text_of(word) == name
    shell = subprocess.run(["sh", "-c", f"printf %s {typed(word)}"], capture_output=True, text=True)
    assert shell.stdout == word


def test_a_plain_path_is_printed_plainly() -> None:
    assert typed(setting("run", "logs/default/2026-01-01_ab12cd")) == (
        "run=logs/default/2026-01-01_ab12cd"
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name != "null"])
def test_a_folder_that_is_there_is_understood_as_typed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (name, f"logs/{name}/x"):
        Path(path).mkdir(parents=True)
        for key in ("run", "resume", "data.root", "hydra.run.dir"):
            word = with_path_quoted(f"{key}={path}")
            assert Path(str(text_of(word))).samefile(path)
            assert isinstance(parser.parse_override(word).value(), str)
            assert with_path_quoted(word) == word, "a second reading is the same"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("data.root=~/x", "/me/x"),
        ("+data.root='~/x y'", "/me/x y"),
        ("output=out/a=1,b=2", "out/a=1,b=2"),
        ("data.root=${paths.data_dir}/x", "${paths.data_dir}/x"),
        ("run=null", None),
    ],
)
def test_a_folder_that_is_not_there(
    word: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/me")
    assert parser.parse_override(with_path_quoted(word)).value() == expected


def test_recorded_paths_hold_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the data module of one's own, too."""
    (tmp_path / "own_data_paths.py").write_text(
        "from pathlib import Path\n"
        "class Own:\n"
        "    def __init__(self, table: Path | None, kind: str = 'x') -> None: ...\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HOME", "/me")
    data = {"_target_": "own_data_paths.Own", "table": "t.csv", "kind": "y"}
    paths = {"data_dir": "data", "cache_dir": "~/cache", "log_dir": "/logs"}
    cfg = OmegaConf.create(
        {
            "paths": paths,
            "data": data | {"root": "${paths.data_dir}/x", "cache_dir": "${paths.cache_dir}"},
            **{"init_from": "logs/x", "resume": None, "run": ["a", "~/b"]},
        }
    )
    assert OmegaConf.to_container(with_absolute_paths(cfg), resolve=True) == {
        "paths": {"data_dir": f"{tmp_path}/data", "cache_dir": "/me/cache", "log_dir": "/logs"},
        "data": data
        | {"table": f"{tmp_path}/t.csv", "root": f"{tmp_path}/data/x", "cache_dir": "/me/cache"},
        **{"init_from": f"{tmp_path}/logs/x", "resume": None, "run": [f"{tmp_path}/a", "/me/b"]},
    }
    assert cfg.paths.data_dir == "data"
