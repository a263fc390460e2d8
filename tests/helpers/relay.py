"""A proxy before a Docker engine or a registry that records requests, and can stop or break connections."""

import contextlib
import itertools
import re
import socket
import socketserver
import threading

PATIENCE = 120
"""Seconds that a held or half-closed connection stays open, so that a failed test still ends."""
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_REQUEST = re.compile(rb"\b(GET|HEAD|POST|PUT|PATCH|DELETE) (\S+) HTTP/1\.1\r\n")


class _Server(socketserver.ThreadingMixIn):
    daemon_threads = True
    block_on_close = False


class _Unix(_Server, socketserver.UnixStreamServer):
    pass


class _Tcp(_Server, socketserver.TCPServer):
    pass


class Relay:
    """A proxy for one server, and a context manager.

    Parameters
    ----------
    upstream : str or tuple
        The server: the path of a socket, or host and port.
    path : path, optional
        The socket to listen on. Default: a free port of 127.0.0.1.

    Attributes
    ----------
    requests : list of tuple of str
        Method and path of each HTTP request.
    sent : int
        Bytes sent upstream.
    held : Event
        Set when the bytes sent exceed the limit that `hold_after` has set.
    """

    def __init__(self, upstream, path=None):
        self._upstream, self._lock = upstream, threading.Lock()
        self._open, self._refused, self._limit, self._free = [], None, None, threading.Event()
        self._answers = itertools.repeat(None)
        self.requests, self.sent, self.held = [], 0, threading.Event()
        handler = type("Handler", (socketserver.BaseRequestHandler,), {"handle": lambda it: self._handle(it.request)})
        self._server = _Unix(str(path), handler) if path else _Tcp(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.cut()
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self):
        return (
            self._server.server_address
            if isinstance(self._server, _Unix)
            else "{}:{}".format(*self._server.server_address)
        )

    def forget(self):
        """Start to count requests and bytes anew."""
        with self._lock:
            self.requests.clear()
            self.sent = 0

    def hold_after(self, size):
        """Stop sending upstream after ``size`` more bytes, until `cut`."""
        with self._lock:
            self.sent, self._limit = 0, size
            self.held.clear()
            self._free.clear()

    def cut(self, refused=b""):
        """Break every connection. Until `mend`, break also each new one whose first bytes contain ``refused``."""
        with self._lock:
            self._refused, self._limit = refused, None
            broken, self._open = self._open, []
        self._free.set()
        for connection in broken:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def mend(self):
        """Accept new connections again."""
        self._refused = None

    def disturb(self, answers):
        """Take an answer for each request that comes: None lets it through, and bytes are sent instead of its answer.

        Without bytes, the connection is cut. An iterator that ends lets every later request through.
        """
        self._answers = itertools.chain(answers, itertools.repeat(None))

    def _handle(self, client):
        if self._refused is not None and self._refused in client.recv(65536, socket.MSG_PEEK):
            return
        kind = socket.AF_UNIX if isinstance(self._upstream, str) else socket.AF_INET
        with socket.socket(kind) as server:
            server.connect(self._upstream)
            with self._lock:
                self._open += [client, server]
            upload = threading.Thread(target=self._pump, args=(client, server, True), daemon=True)
            upload.start()
            self._pump(server, client)
            upload.join(PATIENCE)

    def _pump(self, source, sink, is_upload=False):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                answers = self._note(data) if is_upload else []
                if answers:
                    source.sendall(answers[0])
                    source.shutdown(socket.SHUT_RDWR)
                    break
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _note(self, data):
        """Note what a client sent, and return the answers that `disturb` has for it."""
        with self._lock:
            requests = [(method.decode(), path.decode()) for method, path in _REQUEST.findall(data)]
            answers = [next(self._answers) for _ in requests]
            self.requests += requests
            self.sent += len(data)
            over = self._limit is not None and self.sent > self._limit
        if over:
            self.held.set()
            self._free.wait(PATIENCE)
        return [answer for answer in answers if answer is not None]
