"""What the pages of a browser did that nobody sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Heard:
    """What pages asked for and complained of, in whatever tab."""

    requests: list[str] = field(default_factory=list)  # addresses
    errors: list[str] = field(default_factory=list)  # of the console, and of scripts that raised

    @property
    def elsewhere(self) -> list[str]:
        """The requests that would have left this machine; none of them was let through."""
        return [url for url in self.requests if leaves(url)]


def leaves(url: str) -> bool:
    """Tells whether an address is of another machine; files and data in a page have none."""
    return urlsplit(url).hostname not in (None, "127.0.0.1", "localhost", "::1")
