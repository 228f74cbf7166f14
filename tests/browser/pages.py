"""The page of the browser tests: bundled from npm, served to whatever name asks for it."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.peers import programs

HERE = Path(__file__).parent
ESBUILD = HERE / "node_modules" / "esbuild" / "bin" / "esbuild"
BUNDLE_SECONDS = 30.0
SANDBOXED = "/sandboxed"  # a page without an origin: browsers send `Origin: null`
PAGE = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>A page</title>
<link rel="icon" href="data:,"><body><script src="/page.js"></script></body></html>
"""


def bundle(folder: Path) -> Path:
    """One script of page.mjs and the SDK."""
    script = folder / "page.js"
    page = str(HERE / "page.mjs")
    command = [programs.node(), str(ESBUILD), page, "--bundle", "--format=iife", f"--outfile={script}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUNDLE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return script


def _handler(script: bytes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """HTTP/1.0: a connection for each request, so that a rebound name is looked up anew."""

        def do_GET(self) -> None:
            kind, body = ("text/javascript", script) if self.path == "/page.js" else ("text/html", PAGE)
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Cache-Control", "no-store")
            if self.path == SANDBOXED:
                self.send_header("Content-Security-Policy", "sandbox allow-scripts")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - the base class's signature
            """Silent."""

    return Handler


@contextmanager
def site(script: Path) -> Iterator[str]:
    """Serve the page; yields host and port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(script.read_bytes())) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
