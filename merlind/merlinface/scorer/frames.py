"""What goes over a worker's pipes: requests on its standard input, answers on its standard output. Pure.

A request is two frames, each a length (4 bytes, big-endian) and so many bytes: a head in JSON, and a photo, which is
empty unless the head asks to look at one. The worker first says ``ready``, then one line of JSON for each request:

    {"do": "look"} and a photo                                  {"female": 0.98, "age": 34.2}
    {"do": "score", "name": "Anna", "female": 0.98, "age": 34.2}   {"score": 0.71, "known_name": true}
    either                                                      {"refused": "no face found"}
"""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from merlind.merlinface.scorer.judgement import Judgement, Refused

READY = b"ready"
"""The first line that a worker says."""

_LENGTH = struct.Struct(">I")

Request = tuple[bytes, ...]
"""A request in pieces, so that a photo need not be copied."""

Answer = dict[str, Any]
"""A line of JSON that a worker said."""


@dataclass(frozen=True, slots=True)
class NameScore:
    """How well a name suits a face, from 0 to 1, and whether a table knows the name."""

    score: float
    known_name: bool


def look_request(photo: bytes) -> Request:
    """Return the request to judge the face in a photo."""
    return (*_frame(b'{"do":"look"}'), *_frame(photo))


def score_request(name: str, judgement: Judgement) -> Request:
    """Return the request to score a name for a face that was judged before."""
    head = {"do": "score", "name": name, "female": judgement.female, "age": judgement.age}
    return (*_frame(json.dumps(head).encode("ascii")), *_frame(b""))


def _frame(data: bytes) -> tuple[bytes, bytes]:
    return _LENGTH.pack(len(data)), data


def read_request(read: Callable[[int], bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Return the next head and photo; None at the end. ``read`` returns as many bytes as asked, fewer at the end."""
    head = _read_frame(read)
    photo = None if head is None else _read_frame(read)
    return None if head is None or photo is None else (json.loads(head), photo)


def _read_frame(read: Callable[[int], bytes]) -> bytes | None:
    length = read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(length)
    data = read(size)
    return data if len(data) == size else None


def write_answer(answer: Judgement | NameScore | Refused) -> bytes:
    """Return the line that says so."""
    match answer:
        case Judgement():
            fields: Answer = {"female": answer.female, "age": answer.age}
        case NameScore():
            fields = {"score": answer.score, "known_name": answer.known_name}
        case Refused():
            fields = {"refused": answer.reason}
    return json.dumps(fields).encode("ascii") + b"\n"


def read_answer(line: bytes) -> Answer:
    """Return what a line says. Raises ValueError if it is no JSON object."""
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ValueError("not a JSON object")
    return answer


def read_judgement(answer: Answer) -> Judgement:
    """Return the judgement in an answer. Raises Refused, and ValueError if there is neither."""
    _raise_refusal(answer)
    return Judgement(_number(answer, "female"), _number(answer, "age"))


def read_score(answer: Answer) -> NameScore:
    """Return the score in an answer. Raises Refused, and ValueError if there is neither."""
    _raise_refusal(answer)
    return NameScore(_number(answer, "score"), answer.get("known_name") is True)


def _raise_refusal(answer: Answer) -> None:
    if isinstance(reason := answer.get("refused"), str):
        raise Refused(reason)


def _number(answer: Answer, key: str) -> float:
    value = answer.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e6 < value < 1e6:
        raise ValueError(f"a worker's answer has no {key}")
    return float(value)
