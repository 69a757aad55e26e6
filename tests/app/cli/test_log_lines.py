"""Lines of the log on a terminal: no wider than it, broken between words, commands left whole."""

from __future__ import annotations

import logging

import pytest

from forger.app.cli.log_lines import Wrapped, wrapped

HEAD = "12:00:00 INFO    "


def shown(message: str, level: int = logging.INFO) -> list[str]:
    form = Wrapped("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    record = logging.LogRecord("x", level, "x.py", 1, message, (), None)
    return [line if number else HEAD + line[17:] for number, line in enumerate(lines(form, record))]


def lines(form: logging.Formatter, record: logging.LogRecord) -> list[str]:
    return form.format(record).split("\n")


def test_a_long_line_goes_on_below_its_text() -> None:
    message = "data            " + "4,500 training images, " * 5
    first, *others = shown(message)
    assert first.startswith(f"{HEAD}data            4,500 training")
    assert others
    assert all(line.startswith(" " * 33 + line.strip()) for line in others)
    assert max(map(len, [first, *others])) <= 80
    assert " ".join([first, *others]).split()[2:] == message.split()


def test_a_table_goes_on_below_its_last_column() -> None:
    first, *others = shown("    a checkpoint       30.6 MB  " + "of each file, " * 4)
    assert {line.index(line.strip()) for line in others} == {first.index("of each")}


@pytest.mark.parametrize(
    "message",
    [
        "short",
        "run folder      /" + "a-very-long-name/" * 6,
        "next            python evaluate.py run=logs/" + "x" * 60 + " metrics=quick",
    ],
)
def test_paths_and_commands_stay_whole(message: str) -> None:
    assert sum(message.split()[-1] in line for line in shown(message)) == 1
    if "python" in message:
        assert shown(message) == [HEAD + message]


def test_several_lines_each_of_its_own() -> None:
    found = wrapped("2 problems:\n  " + "word " * 30 + "\nend")
    assert max(map(len, found.split("\n"))) <= 80
    assert found.split("\n")[2].startswith("  word")
    assert found.endswith("\nend")


def test_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert max(map(len, shown("word " * 60))) in range(100, 121)
