"""What a search found: in the log, in `search.md` and in `optuna_results.yaml`. Owns the words.

The database holds the same and more; these need no tool to be read.
"""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from forger.app.config.command import type_program
from forger.app.sweep.search_space import Space
from forger.app.sweep.search_study import FOLDER, INTERRUPTED, OBJECTIVE, REASON, WORDS, count
from forger.whole_files import write_whole

log = logging.getLogger(__name__)


def report(
    study: Study, space: Space, url: str, folder: Path, program: tuple[str, ...] = ()
) -> None:
    """Writes both files into the sweep's folder, and says what is best.

    Args:
        study: of the search, which may have been stopped.
        space: what was searched.
        url: of its storage.
        folder: of the sweep.
        program: that searched, see `Command`.
    """
    best = best_trial(study)
    results: dict[str, Any] = {"name": "optuna", "study_name": study.study_name, "storage": url}
    if best is not None:
        results["best_evaluated_params"] = _typed(best)
        results["best_evaluated_value"] = best.value
        results["best_folder"] = best.user_attrs.get(FOLDER)
        results["best_command"] = command(best, program)
    results["trials"] = count(study)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "optuna_results.yaml", OmegaConf.to_yaml(results).encode())
    write_whole(folder / "search.md", _page(study, space, results).encode())
    for line in _lines(study, best, results.get("best_command")):
        log.info("%s", line)
    log.info("%-15s %s", "search", folder / "search.md")


def best_trial(study: Study) -> FrozenTrial | None:
    """Returns the completed trial with the best value, if there is one."""
    try:
        return study.best_trial
    except ValueError:  # none has completed
        return None


def command(trial: FrozenTrial, program: tuple[str, ...] = ()) -> str:
    """Returns the command that runs a trial's words once, ready for a shell."""
    return f"{type_program(program, 'train')} {shlex.join(trial.user_attrs.get(WORDS, ()))}"


def _typed(trial: FrozenTrial) -> dict[str, Any]:
    """Returns what a trial chose as YAML has it; the study keeps a choice as a word."""
    parser = OverridesParser.create()
    words = {key: parser.parse_override(f"{key}={value}") for key, value in trial.params.items()}
    return {key: word.value() for key, word in words.items()}


def _lines(study: Study, best: FrozenTrial | None, again: str | None) -> list[str]:
    counts = count(study)
    repeated = counts.pop("interrupted")
    told = ", ".join(f"{number} {name}" for name, number in counts.items())
    apart = f", beside {repeated} interrupted" if repeated else ""
    lines = [f"{'trials':<15} {sum(counts.values())}: {told}{apart}"]
    if best is None:
        return [*lines, f"{'best':<15} none: no trial has completed"]
    score = f"{study.user_attrs.get(OBJECTIVE)} = {best.value:.6g}"
    return [
        *lines,
        f"{'best':<15} trial {best.number}: {score}, in {best.user_attrs.get(FOLDER)}",
        f"{'again':<15} {again}",
    ]


def _page(study: Study, space: Space, results: dict[str, Any]) -> str:
    """Returns the whole search as Markdown, a trial a row."""
    keys = [parameter.key for parameter in space.parameters]
    head = ["trial", "state", str(study.user_attrs.get(OBJECTIVE)), *keys, "run", "reason"]
    lines = [f"# Search {study.study_name}", "", *(f"- {line}" for line in _summary(results)), ""]
    lines += [_row(head), _row(["---"] * len(head))]
    for trial in study.trials:
        folder = trial.user_attrs.get(FOLDER)
        cells = [trial.number, _state(trial), trial.value, *(trial.params.get(k) for k in keys)]
        run = None if folder is None else Path(folder).name
        lines.append(_row([*cells, run, trial.user_attrs.get(REASON)]))
    return "\n".join(lines) + "\n"


def _summary(results: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{number} {name}" for name, number in results["trials"].items())
    lines = [f"trials: {counts}", f"storage: `{results['storage']}`"]
    if "best_command" in results:
        lines += [
            f"best: {results['best_evaluated_value']:.6g} in `{results['best_folder']}`",
            f"again: `{results['best_command']}`",
        ]
    return lines


def _state(trial: FrozenTrial) -> str:
    if trial.user_attrs.get(INTERRUPTED):
        return INTERRUPTED
    return {TrialState.FAIL: "failed"}.get(trial.state, trial.state.name.lower())


def _row(cells: list[Any]) -> str:
    shown = ("" if cell is None else _shown(cell) for cell in cells)
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in shown) + " |"


def _shown(cell: Any) -> str:
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)
