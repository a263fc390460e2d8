"""A gate that delays jobs until a test opens it."""

import socket
import threading


class Gate:
    """A gate for jobs in any process or container: a socket that accepts no connection until `open`."""

    def __init__(self):
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = self._server.getsockname()
        self._guard = threading.Thread(target=self._let_in, daemon=True)

    def open(self):
        """Let every job through, now and later."""
        self._guard.start()

    def close(self):
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _let_in(self):
        while True:
            try:
                self._server.accept()[0].close()
            except OSError:
                return
