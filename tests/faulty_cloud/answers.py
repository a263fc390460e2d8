"""Spoil the answer to one request: lose it, cut it, take a member away, or send another document in its place."""

from __future__ import annotations

import json
import random
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from xml.etree import ElementTree

from waitress.channel import ClientDisconnected

from cloudknot.local import wsgi

PAGE = b"<!DOCTYPE html>\n<html><head><title>Guest network</title></head><body><p>Please log in.</p></body></html>\n"
"""A page that a network shows in place of all answers until its user has logged in."""
# No client can miss a token: without it, a listing has simply ended.
_TOKENS = frozenset({"nextToken", "NextToken", "Marker"})


@dataclass(frozen=True)
class Exchange:
    """One request, and all that is needed to answer it.

    ``cut`` is that of `Faults`. ``chance`` has random numbers for this request alone.
    """

    environ: WSGIEnvironment
    start_response: StartResponse
    carry_out: WSGIApplication
    service: str
    cut: float | None
    chance: random.Random


def drop(exchange: Exchange) -> Iterable[bytes]:
    """Carry out a request, and close the connection without an answer."""
    # Only the answer is lost: the case in which a repeated call does harm.
    _carried_out(exchange)
    # waitress closes the connection.
    raise ClientDisconnected


def cut(exchange: Exchange) -> Iterable[bytes]:
    """Carry out a request, send a part of the answer, and close the connection."""

    head, body = _whole_answer(exchange)
    end = exchange.cut
    if end is None:
        size = exchange.chance.randrange(len(head + body))
    else:
        size = len(head) + (end if isinstance(end, int) else int(end * len(body)))
    raise _sent(exchange, (head + body)[:size])


def reset(exchange: Exchange) -> Iterable[bytes]:
    """Carry out a request, and reset the connection after a part of the answer."""

    answer = b"".join(_whole_answer(exchange))
    # A connection that may not linger ends with RST in place of FIN.
    _channel(exchange).socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise _sent(exchange, answer[: exchange.chance.randrange(len(answer))])


def _carried_out(exchange: Exchange) -> tuple[wsgi.RecordedAnswer, bytes]:
    """Carry out a request, and return its answer without sending it."""
    recorded = wsgi.RecordedAnswer()
    return recorded, wsgi.full_body(exchange.carry_out(exchange.environ, recorded))


def _whole_answer(exchange: Exchange) -> tuple[bytes, bytes]:
    """Carry out a request, and return head and body of its answer."""
    recorded, body = _carried_out(exchange)
    recorded.pass_on(exchange.start_response)
    lines = [f"HTTP/1.1 {recorded.status}", *(f"{name}: {value}" for name, value in recorded.headers), "", ""]
    return "\r\n".join(lines).encode("latin-1"), body


def _sent(exchange: Exchange, part: bytes) -> Exception:
    """Send bytes, and return the error with which waitress then closes the connection."""
    _channel(exchange).write_soon(part)
    return ClientDisconnected()


def _channel(exchange: Exchange) -> Any:
    """Return waitress's object for the connection. Its only trace in a request is one of its methods."""
    return exchange.environ["waitress.client_disconnected"].__self__


def remove_member(exchange: Exchange) -> Iterable[bytes]:
    """Carry out a request, and leave out one member of the answer. An answer without members stays as it is."""
    recorded, body = _carried_out(exchange)
    headers = recorded.headers
    if recorded.status.startswith("2"):
        # An object is not a document, whatever its content. The members of such answers are headers.
        content_type = dict(headers).get("Content-Type", "")
        is_document = content_type.endswith("xml") or (exchange.service != "s3" and "json" in content_type)
        shorter = _without_member(body, exchange.chance) if is_document else None
        left_out = "etag" if shorter is None else "content-length"
        headers = [header for header in headers if header[0].lower() != left_out]
        if shorter is not None:
            body = shorter
            headers.append(("Content-Length", str(len(body))))
    exchange.start_response(recorded.status, headers)
    return [body]


def _without_member(body: bytes, chance: random.Random) -> bytes | None:
    """Return a document without one of its members; None for a document without members."""
    if not body:
        return None
    if body.startswith(b"{"):
        members = json.loads(body)
        names = sorted(members.keys() - _TOKENS)
        if not names:
            return None
        del members[chance.choice(names)]
        return json.dumps(members).encode()
    root = ElementTree.fromstring(body)
    parent = next((child for child in root if child.tag.endswith("Result")), root)
    children = [child for child in parent if child.tag.rpartition("}")[2] not in _TOKENS]
    if not children:
        return None
    parent.remove(chance.choice(children))
    text: bytes = ElementTree.tostring(root, "utf-8", xml_declaration=True)
    return text


def misplace(exchange: Exchange) -> Iterable[bytes]:
    """Carry out a request, and send the answer to another operation."""
    _carried_out(exchange)
    text, content_type = '{"unknownMember": {}}', "application/json"
    if exchange.service == "s3":
        text = "<AccelerateConfiguration><Status>Enabled</Status></AccelerateConfiguration>"
    elif wsgi.is_xml(exchange.service):
        text = "<DescribeTypeResponse><DescribeTypeResult/></DescribeTypeResponse>"
    if wsgi.is_xml(exchange.service):
        content_type = "text/xml"
    answer = wsgi.send(exchange.start_response, text.encode(), content_type)
    return [] if exchange.environ["REQUEST_METHOD"] == "HEAD" else answer


def send_page(exchange: Exchange) -> Iterable[bytes]:
    """Answer a request, which has no effect, with a login page and HTTP status 200."""
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(PAGE)))]
    exchange.start_response("200 OK", headers)
    return [] if exchange.environ["REQUEST_METHOD"] == "HEAD" else [PAGE]


def fail(exchange: Exchange) -> Iterable[bytes]:
    """Raise an exception in place of an answer to a request, which has no effect."""
    raise KeyError(exchange.service)


SPOILS: Mapping[str, Callable[[Exchange], Iterable[bytes]]] = {
    "dropped": drop,
    "reset": reset,
    "truncated": cut,
    "missing": remove_member,
    "misplaced": misplace,
    "pages": send_page,
    "bugs": fail,
}
"""By the rate of `Faults`."""
