"""The page's server: its address, what it may ask for, and what it leaves behind."""

from __future__ import annotations

import os
import socket
import threading
import urllib.request
from pathlib import Path

import pytest
from composing import compose_config
from training import trained

from forger.errors import ConfigError

pytest.importorskip("gradio")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Gradio, and of what it imports


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("explored"))


def test_a_busy_port_is_told(run: Path) -> None:
    from forger.app.explore.serve import served

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(
                ConfigError, match=rf"port={port}: cannot be used: .*write port=<another>"
            ),
            served(compose_config("explore", f"run={run}", f"port={port}")),
        ):
            pass


def test_it_asks_for_nothing_elsewhere_and_leaves_nothing(run: Path) -> None:
    from forger.app.explore.serve import served

    before = dict(os.environ)
    with served(compose_config("explore", f"run={run}", "port=0", "device=cpu")) as (server, own):
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        assert folder.is_dir()
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        host, port = own.getsockname()
        assert host == "127.0.0.1"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [own]})
        thread.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
            page = answer.read().decode()
        assert "fonts.googleapis.com" not in page
        assert "cdnjs" not in page
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
    assert not folder.exists()
    assert dict(os.environ) == before
