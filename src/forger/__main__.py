"""The `forger` command, for where there is no clone: `forger train`, `evaluate` and `generate`."""

from __future__ import annotations

import shlex
import sys

from forger import __version__

_COMMANDS = {
    "train": "trains a GAN, or many: forger train -m",
    "evaluate": "scores finished runs, or compares them",
    "generate": "generates images from a finished run",
}


def main() -> None:
    """Runs the command that was typed, or says what can be."""
    name = sys.argv[1] if len(sys.argv) > 1 else None
    if name in _COMMANDS:
        _run(name)
    elif name is None:
        print(_usage(), file=sys.stderr)
        sys.exit(2)
    elif name in ("--help", "-h", "help"):
        print(_usage())
    elif name in ("--version", "-V", "version"):
        print(f"forger {__version__}")
    else:
        print(f"error: forger {_refusal(name, sys.argv[1:])}", file=sys.stderr)
        sys.exit(2)


def _run(name: str) -> None:
    from forger.app.cli.main import own_configs, run

    run(name, own_configs(), subcommand=(name,))


def _usage() -> str:
    width = max(map(len, _COMMANDS))
    return "\n".join(
        [
            "usage: forger <command> [<setting>=<value> ...]",
            "",
            *(f"  forger {name:<{width}}  {what}" for name, what in _COMMANDS.items()),
            "",
            "What can be set: forger <command> --help. Own YAML files: --config-dir <folder>.",
        ]
    )


def _refusal(name: str, typed: list[str]) -> str:
    from forger.app.config.messages import choice

    if name.startswith("-") or "=" in name:
        command = next((word for word in typed if word in _COMMANDS), "train")
        words = [command, *(word for word in typed if word != command)]
        return f"{name}: the command comes first; write forger {shlex.join(words)}"
    return f"{name}: no such command{choice(name, _COMMANDS)}"


if __name__ == "__main__":
    main()
