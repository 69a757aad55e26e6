"""What stands on a page, and the page itself: one HTML file that asks nobody for anything."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from forger.app.report import charts
from forger.app.report.charts import Chart
from forger.app.report.files import Picture
from forger.app.run.tables import Table, short
from forger.errors import UserError
from forger.whole_files import write_whole

NAME = "report.html"  # in the folder of a run or a sweep
_TEMPLATES = Path(__file__).parent
_MARK = '<meta name="generator" content="forger report">'  # by which our own files are known
_HEAD = 512  # bytes in which it stands


@dataclass(frozen=True)
class Film:
    """Grids of one run over its training."""

    name: str
    frames: list[Picture]


@dataclass(frozen=True)
class Shown:
    """A table under a title; `keyed`: its rows have the colours of the curves, in their order."""

    title: str
    table: Table
    note: str = ""
    keyed: bool = False
    links: Sequence[str | None] = ()  # of the rows


@dataclass
class Page:
    """What a page shows, in this order; empty parts are left out."""

    title: str
    status: str = ""
    reason: str = ""
    facts: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    overview: list[Shown] = field(default_factory=list)
    films: list[Film] = field(default_factory=list)
    samples: list[Picture] = field(default_factory=list)
    tables: list[Shown] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    figures: list[Picture] = field(default_factory=list)
    commands: list[tuple[str, str]] = field(default_factory=list)
    details: list[tuple[str, str]] = field(default_factory=list)

    @property
    def keyed(self) -> bool:
        """Whether a table tells the colours of all curves."""
        return any(shown.keyed for shown in self.overview)

    def add(self, part: str, make: Callable[..., Iterable[Any]], *arguments: Any) -> None:
        """Adds to a part; where a record is not what it should be, says so in its place."""
        try:
            getattr(self, part).extend(make(*arguments))
        except Exception as error:  # records may be anybody's
            self.notes.append(f"{part}: cannot be shown: {type(error).__name__}: {error}")

    def render(self) -> str:
        """Returns the page as HTML, in which all that comes from a record is escaped."""
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup

        style, script = (_read(f"page.{kind}") for kind in ("css", "js"))
        environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.get_template("page.html").render(
            page=self,
            mark=Markup(_MARK),
            style=Markup(style),
            script=Markup(script),
            policy=f"default-src 'none'; img-src data:; style-src {_hash(style)};"
            f" script-src {_hash(script)}",
            chart=charts,
            short=short,
            made=datetime.now().astimezone(),
        )


def write_page(page: Page, path: Path) -> None:
    """Writes a page in place of an earlier one.

    Raises:
        UserError: something else has that name.
        OSError: it cannot be written.
    """
    check_replaceable(path)
    write_whole(path, page.render().encode(errors="replace"))


def check_replaceable(path: Path, key: str = "") -> None:
    """Refuses a file that is no report; `key` is the setting that names it.

    Raises:
        UserError: it would be lost.
    """
    named = f"{key}={path}" if key else str(path)
    if path.is_dir():
        raise UserError(f"{named}: is a folder; write output=<file>.html")
    if path.is_file():
        with path.open("rb") as file:
            if _MARK.encode() not in file.read(_HEAD):
                raise UserError(f"{named}: is no report, and would be lost; write output=<file>")


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Returns what a browser's policy knows a script or a style by."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
