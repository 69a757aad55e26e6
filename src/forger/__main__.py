"""The `forger` command, for where there is no clone: `forger train`, `forger report` ..."""

from __future__ import annotations

import shlex
import sys

from forger import __version__

_COMMANDS = ("train", "evaluate", "generate", "explore", "report", "export")
_USAGE = """usage: forger <command> [<setting>=<value> ...]

  forger train     trains a GAN, or many: forger train -m
  forger evaluate  scores finished runs, or compares them
  forger generate  generates images from a finished run
  forger explore   opens a page to look into a finished run
  forger report    shows a run, a sweep, or several runs in one HTML file
  forger export    exports the generator of a finished run

What can be set: forger <command> --help. Own YAML files: --config-dir <folder>."""


def main() -> None:
    """Runs the command that was typed, or says what can be."""
    typed = sys.argv[1:]
    name = typed[0] if typed else None
    if name in _COMMANDS:
        from forger.app.cli.main import own_configs, run  # Hydra, which --version needs not

        run(name, own_configs(), subcommand=(name,))
    elif name in ("--help", "-h", "help"):
        print(_USAGE)
    elif name in ("--version", "-V", "version"):
        print(f"forger {__version__}")
    else:
        print(_USAGE if name is None else f"error: forger {_refusal(name, typed)}", file=sys.stderr)
        sys.exit(2)


def _refusal(name: str, typed: list[str]) -> str:
    from forger.app.config.messages import choice  # as above

    if name.startswith("-") or "=" in name:
        command = next((argument for argument in typed if argument in _COMMANDS), "train")
        others = [argument for argument in typed if argument != command]
        return f"{name}: the command comes first; write forger {shlex.join([command, *others])}"
    return f"{name}: no such command{choice(name, _COMMANDS)}"


if __name__ == "__main__":
    main()
