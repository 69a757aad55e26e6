"""ONNX Runtime for browsers, which `format=html` puts into its page."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from forger.errors import UserError
from forger.whole_files import write_whole

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
# SHA-512 of the package as npm's registry has it (MIT licence).
INTEGRITY = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
# What npm says of an error, but for the lines that are for programs; its old versions write "ERR!".
_SAID = re.compile(r"^npm (?:error|ERR!) (?!code |syscall |errno )(\S.*)", re.MULTILINE)
_SCRIPT, _WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"


@dataclass(frozen=True)
class WebRuntime:
    """What runs ONNX in a browser.

    Attributes:
        script: a JavaScript module.
        wasm: the WebAssembly that it needs.
    """

    script: str
    wasm: bytes


def find_web_runtime(given: str | None, cache_dir: Path) -> WebRuntime:
    """Returns the runtime of a folder, or that of npm, which is fetched once.

    Args:
        given: a folder with the unpacked package, or its `dist`; None: from npm.
        cache_dir: where npm's package is kept; its hash is looked at each time.

    Raises:
        UserError: there is none, or it is not what it should be.
    """
    if given is not None:
        folder = Path(given).expanduser()
        for place in (folder / "dist", folder):
            if (place / _SCRIPT).is_file() and (place / _WASM).is_file():
                script = (place / _SCRIPT).read_text(encoding="utf-8", errors="replace")
                return WebRuntime(script, (place / _WASM).read_bytes())
        raise UserError(
            f"web_runtime={given}: holds no {_SCRIPT} and {_WASM}; name the unpacked package"
            f" {PACKAGE}, or leave web_runtime out to have npm fetch it"
        )
    package = cache_dir.expanduser() / f"{PACKAGE}-{VERSION}.tgz"
    if not (package.is_file() and _is_right(package.read_bytes())):
        content = _fetched()
        try:
            write_whole(package, content)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"paths.cache_dir={cache_dir}: cannot be written: {reason}") from error
    with tarfile.open(package) as archive:
        files = [archive.extractfile(f"package/dist/{name}") for name in (_SCRIPT, _WASM)]
        contents = [file.read() for file in files if file is not None]
    return WebRuntime(contents[0].decode(), contents[1])


def _fetched() -> bytes:
    """Has npm fetch the package, which runs nothing of it.

    Raises:
        UserError: there is no npm, no network, or another package came.
    """
    npm, otherwise = shutil.which("npm"), f"or write web_runtime=<folder of {PACKAGE}, unpacked>"
    if npm is None:
        raise UserError(
            f"format=html: needs {PACKAGE}, which npm fetches once, and there is no npm; install"
            f" Node.js, {otherwise}"
        )
    try:
        content, reason = _packed_by(npm)
    except OSError as error:  # of the folder for temporary files
        content, reason = None, f"{error.strerror or error}"
    if content is None:
        raise UserError(
            f"format=html: npm cannot fetch {PACKAGE}: {reason}; try again, {otherwise}"
        )
    if not _is_right(content):
        raise UserError(
            f"format=html: npm's {PACKAGE} {VERSION} is not the one that this version of forger"
            f" knows, by its hash; {otherwise[3:]}"
        )
    return content


def _packed_by(npm: str) -> tuple[bytes | None, str]:
    """Returns the package, or None and what npm says."""
    with TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", folder]
        # On a full disk npm leaves a part of the package there, so that its status counts, too.
        done = subprocess.run(
            [*command, "--loglevel=error"], cwd=folder, capture_output=True, text=True
        )
        found = next(Path(folder).glob("*.tgz"), None)
        if done.returncode == 0 and found is not None:
            return found.read_bytes(), ""
    said = _SAID.findall(done.stderr) or done.stderr.strip().splitlines() or ["it says nothing"]
    return None, said[0][:200]


def _is_right(content: bytes) -> bool:
    return base64.b64encode(hashlib.sha512(content).digest()).decode() == INTEGRITY
