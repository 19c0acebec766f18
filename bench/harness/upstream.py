"""The fake upstream, a process of its own that is never the bottleneck: ``python -m harness.upstream PORT POLLS``.

It says "wait" to an upload and "success" to poll number POLLS; 0 is at once, -1 never. The result that it gives is its
own monotonic time, so that a client can tell how long the result took to reach it. ``GET /stats`` returns what it
counted, ``GET /release`` lets everything succeed from then on.
"""

import asyncio
import json
import re
import sys
import time
from typing import Any

import uvloop
from httptools import HttpRequestParser

SMALL = 2048  # bytes of the longest body that can be a poll; longer ones are uploads, and are not looked into
_RETRY_ID = re.compile(rb'name="retry_id".*?\r\n\r\n([^\r]*)', re.DOTALL)


class Script:
    """Decides on the responses, and counts them."""

    def __init__(self, polls: int) -> None:
        self._polls_needed = polls
        self._polls_of: dict[bytes, int] = {}
        self._counts = {"uploads": 0, "polls": 0, "done": 0}

    def command(self, target: bytes) -> bytes:
        if target == b"/release":
            self._polls_needed = 0
        return _response(b"200 OK", json.dumps(self._counts).encode())

    def upload(self) -> bytes:
        self._counts["uploads"] += 1
        return self._wait(b"%d" % self._counts["uploads"]) if self._polls_needed else self._success()

    def poll(self, retry_id: bytes) -> bytes:
        self._counts["polls"] += 1
        if self._polls_needed < 0:
            return self._wait(retry_id)
        polls = self._polls_of.pop(retry_id, 0) + 1
        if polls >= self._polls_needed:
            return self._success()
        self._polls_of[retry_id] = polls
        return self._wait(retry_id)

    def _wait(self, retry_id: bytes) -> bytes:
        return _response(b"202 Accepted", b'{"status":"wait","result":null,"retry_id":"%s","errors":[]}' % retry_id)

    def _success(self) -> bytes:
        self._counts["done"] += 1
        return _response(b"200 OK", b'{"status":"success","result":%.6f,"errors":[]}' % time.monotonic())


def _response(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


class Connection(asyncio.Protocol):
    """A keep-alive connection. The methods in ``on_`` are called by the parser."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._parser = HttpRequestParser(self)
        self._target = self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._target, self._body = url, b""

    def on_body(self, data: bytes) -> None:
        if len(self._body) <= SMALL:
            self._body += data

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"GET":
            response = self._script.command(self._target)
        elif len(self._body) <= SMALL and (retry_id := _RETRY_ID.search(self._body)):
            response = self._script.poll(retry_id[1])
        else:
            response = self._script.upload()
        self._transport.write(response)


async def serve(port: int, polls: int) -> None:
    """Serve until ended from outside."""
    script = Script(polls)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(script), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
