"""An address that comes to mean another one while connections are made to it: DNS rebinding, and counting."""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CHUNK = 65536
CONNECT_SECONDS = 5.0


class Relay(socketserver.ThreadingTCPServer):
    """Hands every new connection on to `target`, byte for byte. `heard` counts the bytes that were sent there."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.heard = 0

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Relay)
        select.select([self.request], [], [])  # browsers connect ahead of need; what counts is when they ask
        host, _, port = self.server.target.rpartition(":")
        with socket.create_connection((host, int(port)), CONNECT_SECONDS) as beyond:
            ways = {self.request: beyond, beyond: self.request}
            while True:
                for ready in select.select(list(ways), [], [])[0]:
                    if not (data := ready.recv(CHUNK)):
                        return
                    self.server.heard += len(data) if ready is self.request else 0
                    ways[ready].sendall(data)


@contextmanager
def relay(target: str) -> Iterator[Relay]:
    """A relay in threads of its own."""
    with Relay(target) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
