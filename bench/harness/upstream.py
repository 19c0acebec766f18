"""The fake upstream: a process of its own, in no way a bottleneck. ``python -m harness.upstream PORT POLLS``.

It says "wait" to an upload and "success" at poll number POLLS; 0 is at once, -1 never. The result that it gives is its
own monotonic time, so that whoever gets it can tell how long it was on its way. ``GET /stats`` tells what it did,
``GET /release`` lets everything succeed from then on.
"""

import asyncio
import json
import re
import sys
import time

import uvloop

SMALL = 2048
"""The longest body that can be a poll, in bytes; longer ones are uploads and are not looked into."""

_RETRY_ID = re.compile(rb'name="retry_id".*?\r\n\r\n([^\r]*)', re.DOTALL)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Script:
    """What is answered, and how often it was."""

    def __init__(self, polls: int) -> None:
        self.needed = polls
        self.polled: dict[bytes, int] = {}
        self.uploads = self.polls = self.done = 0

    def upload(self) -> bytes:
        self.uploads += 1
        return self._success() if self.needed == 0 else self._wait(b"%d" % self.uploads)

    def poll(self, retry_id: bytes) -> bytes:
        self.polls += 1
        if self.needed < 0:
            return self._wait(retry_id)
        seen = self.polled.get(retry_id, 0) + 1
        if seen >= self.needed:
            self.polled.pop(retry_id, None)
            return self._success()
        self.polled[retry_id] = seen
        return self._wait(retry_id)

    def command(self, target: bytes) -> bytes:
        if target == b"/release":
            self.needed = 0
        stats = {"uploads": self.uploads, "polls": self.polls, "done": self.done}
        return _answer(b"200 OK", json.dumps(stats).encode())

    def _wait(self, retry_id: bytes) -> bytes:
        return _answer(b"202 Accepted", b'{"status":"wait","result":null,"retry_id":"%s","errors":[]}' % retry_id)

    def _success(self) -> bytes:
        self.done += 1
        return _answer(b"200 OK", b'{"status":"success","result":%.6f,"errors":[]}' % time.monotonic())


def _answer(status: bytes, body: bytes) -> bytes:
    return _HEAD % (status, len(body)) + body


class Connection(asyncio.BufferedProtocol):
    """One keep-alive connection: requests one after another, a long body counted and not kept."""

    _shared = memoryview(bytearray(256 * 1024))

    def __init__(self, script: Script) -> None:
        self._script = script
        self._kept = b""
        self._skip = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._shared

    def buffer_updated(self, size: int) -> None:
        if self._skip > size:
            self._skip -= size
            return
        if self._skip:
            rest = bytes(self._shared[self._skip : size])
            self._skip = 0
            self._transport.write(self._script.upload())
            self._parse(rest)
        else:
            self._parse(self._kept + bytes(self._shared[:size]))

    def _parse(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._kept = data
            return
        found = _LENGTH.search(data, 0, end + 2)
        length = int(found[1]) if found else 0
        have = len(data) - end - 4
        if data.startswith(b"GET "):
            self._transport.write(self._script.command(data.split(b" ", 2)[1]))
        elif found is None:
            self._transport.write(_answer(b"411 Length Required", b"{}"))
        elif have < length:
            if length > SMALL:
                self._kept, self._skip = b"", length - have
            else:
                self._kept = data
            return
        else:
            retry_id = _RETRY_ID.search(data, end) if length <= SMALL else None
            self._transport.write(self._script.poll(retry_id[1]) if retry_id else self._script.upload())
        self._kept = b""
        if have > length:
            self._parse(data[end + 4 + length :])


async def serve(port: int, polls: int) -> None:
    """Serve until ended from outside."""
    script = Script(polls)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(script), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
