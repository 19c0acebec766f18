"""The reader of multipart/form-data: what it reports, what it refuses, and that cuts make no difference."""

import itertools
from collections.abc import Iterable

from hypothesis import assume, given
from hypothesis import strategies as st
from multipart import MultipartError, MultipartSegment, PushMultipartParser  # type: ignore[import-untyped]
from twisted.trial.unittest import SynchronousTestCase

from merlind.web.multipart import (
    BadBoundary,
    FormEvent,
    FormPart,
    FormReader,
    FormRules,
    FormTooComplex,
    MalformedForm,
    NotAForm,
    PartEnd,
    UnreadableForm,
    find_boundary,
)
from tests.unit.web.support import checked

LENIENT = FormRules(max_parts=3, max_preamble=40, max_epilogue=60)
STRICT = FormRules(max_parts=3)
PLAIN = b'Content-Disposition: form-data; name="a"\r\n'
ONE = b"--B\r\n" + PLAIN + b"\r\nx\r\n"
END = b"--B--\r\n"
A = FormPart("a", None, None, None)

Outcome = tuple[list[FormEvent], UnreadableForm | None]


def read(pieces: Iterable[bytes], rules: FormRules = LENIENT, boundary: bytes = b"B") -> Outcome:
    """The events of a body that comes in these pieces, neighbouring content joined, and the fault that ended them."""
    reader = FormReader(boundary, rules)
    events: list[FormEvent] = []
    try:
        for piece in pieces:
            for event in reader.read(piece):
                if isinstance(event, bytes) and events and isinstance(events[-1], bytes):
                    events[-1] += event
                else:
                    events.append(event)
        reader.close()
    except UnreadableForm as error:
        return events, error
    return events, None


class BoundaryTests(SynchronousTestCase):
    """The Content-Type (docs/battery.md, C1)."""

    def test_found(self) -> None:
        """Quoted or not, among other parameters, in either case, of up to 70 characters."""
        for content_type, boundary in (
            (b"multipart/form-data; boundary=x", b"x"),
            (b'Multipart/Form-Data; charset=utf-8; BOUNDARY="with space:?"', b"with space:?"),
            (b'multipart/form-data; boundary="b \xe9;"', b"b \xe9;"),
            (b"multipart/form-data; boundary=" + b"b" * 70, b"b" * 70),
        ):
            self.assertEqual(find_boundary(content_type), boundary)

    def test_other_types_are_no_form(self) -> None:
        """Another media type, or none."""
        for content_type in (None, b"", b"application/json", b"multipart/mixed; boundary=x", b"multipart/form-datax"):
            self.assertRaises(NotAForm, find_boundary, content_type)

    def test_unusable(self) -> None:
        """No boundary, an empty one, one that is too long or not printable."""
        for parameters in (b"", b"; boundary=", b'; boundary=""', b"; boundary=" + b"b" * 71, b'; boundary="a\tb"'):
            self.assertRaises(BadBoundary, find_boundary, b"multipart/form-data" + parameters)


class ReadTests(SynchronousTestCase):
    """What a reader reports of well-formed bodies."""

    def assert_read(self, body: bytes, *events: FormEvent, rules: FormRules = LENIENT) -> None:
        self.assertEqual(read([body], rules), (list(events), None), body)

    def test_no_parts(self) -> None:
        """A form may be empty."""
        self.assert_read(b"--B--")

    def test_parts(self) -> None:
        """Each part begins, has content or none, and ends."""
        body = ONE + b"--B\r\n" + PLAIN + b"\r\n\r\n" + END
        self.assert_read(body, A, b"x", PartEnd(), A, PartEnd())

    def test_part_headers(self) -> None:
        """Name, filename, media type and transfer encoding, in whatever case and quotes they come."""
        for headers, part in (
            (b'content-disposition: form-data; name=a; filename=""\r\n', FormPart("a", "", None, None)),
            (b'Content-Disposition: form-data;\r\n name="\xc3\xa9"\r\n', FormPart("é", None, None, None)),
            (b"Content-Disposition: form-data; name*=utf-8''a\r\n", FormPart(None, None, None, None)),
            (b"Content-Disposition: form-data\r\n", FormPart(None, None, None, None)),
            (b'Content-Disposition: form-data; name=""\r\n', FormPart("", None, None, None)),
            (PLAIN + b"Content-Type: Image/JPEG; x=y\r\n", FormPart("a", None, "image/jpeg", None)),
            (PLAIN + b"Content-Transfer-Encoding: Base64\r\n", FormPart("a", None, None, "base64")),
            (PLAIN + b"Content-Length: 1\r\nX: y\r\n", A),
            (PLAIN + b"X: \xff\0\x1b\r\n", A),
            (PLAIN.replace(b"\r\n", b'; filename="\x95\\"\r\n'), FormPart("a", "\ufffd\\", None, None)),
            (b'Content-Disposition: form-data; name="\xff"\r\n', FormPart("\ufffd", None, None, None)),
        ):
            self.assert_read(b"--B\r\n" + headers + b"\r\nx\r\n" + END, part, b"x", PartEnd())

    def test_one_line_break_may_come_first(self) -> None:
        """One CRLF before the first boundary is ignored under any rules."""
        for rules in (LENIENT, STRICT):
            self.assert_read(b"\r\n" + ONE + END, A, b"x", PartEnd(), rules=rules)

    def test_preamble(self) -> None:
        """What comes before the first boundary is ignored, as far as the rules say (docs/battery.md, C11)."""
        for preamble in (
            b"\r\n",
            b"\r\n\r\n\r\n",
            b"This is a MIME message.\r\n",
            b"MIME-Version: 1.0\r\nX: y\r\n\r\n",
            b"a --B, --B-- in the line\r\n\n--B\r\n",
            b"\0\xff\r\r\n-\r\n--\r\n--b\r\n",
            b"x" * 40 + b"\r\n",
        ):
            self.assert_read(preamble + ONE + END, A, b"x", PartEnd())

    def test_epilogue(self) -> None:
        """What follows the end is ignored, or must be one line break, as the rules say."""
        for rules in (LENIENT, STRICT):
            self.assert_read(ONE + END, A, b"x", PartEnd(), rules=rules)
            self.assert_read(ONE + b"--B--", A, b"x", PartEnd(), rules=rules)
        for epilogue in (b"\r\n", b"x", b"\r\n" + ONE, b"x" * 60):
            self.assert_read(ONE + END + epilogue, A, b"x", PartEnd())

    def test_all_but_the_boundary_is_content(self) -> None:
        """Line breaks, and what nearly is a boundary."""
        content = b"\r\n--b\r\n\r\n--\r\r\n-B\r\n\r--B--\n--B\r\n\r"
        self.assert_read(b"--B\r\n" + PLAIN + b"\r\n" + content + b"\r\n" + END, A, content, PartEnd())

    def test_content_is_not_held_back(self) -> None:
        """Each piece is reported when it comes, but for what may be the beginning of a boundary."""
        reader = FormReader(b"B", LENIENT)
        self.assertEqual(list(reader.read(b"--B\r\n" + PLAIN + b"\r\n")), [A])
        for piece, events in (
            (b"abc", [b"abc"]),
            (b"", []),
            (b"de\r", [b"de"]),
            (b"\n-", []),
            (b"\r\n--", [b"\r\n-"]),
            (b"B", []),
            (b"\r", []),
            (b"\n", [PartEnd()]),
            (PLAIN + b"\r\nf", [A, b"f"]),
        ):
            self.assertEqual(list(reader.read(piece)), events, piece)


class RefusedTests(SynchronousTestCase):
    """What a reader refuses, and what it has reported by then."""

    def assert_refused(self, kind: type[UnreadableForm], body: bytes, *events: FormEvent, rules: FormRules) -> None:
        for pieces in ([body], [body[i : i + 1] for i in range(len(body))]):
            reported, error = read(pieces, rules)
            self.assertIs(type(error), kind, body)
            self.assertEqual(reported, list(events), body)

    def test_malformed(self) -> None:
        """A body that breaks the format, under any rules."""
        for headers in (
            b"",
            b"Content-Type: text/plain\r\n",
            b"Content-Disposition: attachment; name=a\r\n",
            b'Content-Disposition: form-data; name="a"; name="b"\r\n',
            PLAIN + PLAIN,
            b" folded first: x\r\n" + PLAIN,
            PLAIN + b"no colon\r\n",
            PLAIN + b"bad name: x\r\n",
            PLAIN + b"X: y\nz\r\n",
            b"\n" + PLAIN,
            PLAIN + b"X\n: y\r\n",
            PLAIN + b"Content-Length: -1\r\n",
            PLAIN + b"Content-Length: 1\r\nContent-Length: 1\r\n",
        ):
            for rules in (LENIENT, STRICT):
                self.assert_refused(MalformedForm, b"--B\r\n" + headers + b"\r\nx\r\n" + END, rules=rules)
        for body in (
            b"",
            b"\r\n",
            b"not a form",
            b"--B",
            b"--B\n" + ONE + END,
            b"--BB\r\n",
            b"a preamble" + ONE + END,
            b"a preamble\n" + ONE + END,
            b"x" * 41 + b"\r\n" + ONE + END,
            b"\r\n" + b"x" * 41 + b"\r\n" + ONE + END,
            b"--B\r\n",
            b"--B\r\n" + PLAIN,
        ):
            for rules in (LENIENT, STRICT):
                self.assert_refused(MalformedForm, body, rules=rules)

    def test_preamble_too_long(self) -> None:
        """It is refused as soon as it is longer than the rules say, and nothing but one line break if they say so."""
        for rules, longest in ((LENIENT, 40), (STRICT, 0)):
            reader = FormReader(b"B", rules)
            self.assertEqual(list(reader.read(b"x" * (longest + len("\r\n--")))), [])
            self.assertRaises(MalformedForm, list, reader.read(b"x"))
        for preamble in (b"x\r\n", b"\r\n\r\n"):
            self.assert_refused(MalformedForm, preamble + ONE + END, rules=STRICT)

    def test_malformed_later(self) -> None:
        """What came before the fault was reported."""
        self.assert_refused(MalformedForm, ONE, A, b"x", rules=LENIENT)
        self.assert_refused(MalformedForm, ONE + b"--B\r\n", A, b"x", PartEnd(), rules=LENIENT)
        self.assert_refused(MalformedForm, ONE + b"--BB", A, b"x", rules=LENIENT)
        for epilogue in (b"x" * 61, b"\r\n" + b"x" * 61):
            self.assert_refused(MalformedForm, ONE + b"--B--" + epilogue, A, b"x", PartEnd(), rules=LENIENT)
        for epilogue in (b"x", b"\n", b"\r\r", b"\r\n\r\n", b"\r\n" + ONE):
            self.assert_refused(MalformedForm, ONE + b"--B--" + epilogue, A, b"x", PartEnd(), rules=STRICT)

    def test_content_length(self) -> None:
        """A part must be as long as it says; no more than that is reported."""
        for length, content in ((0, b""), (1, b"a"), (4, b"abc\r"), (5, b"abc\r\n"), (8, b"abc\r\ndef")):
            body = b"--B\r\n" + PLAIN + b"Content-Length: %d\r\n\r\nabc\r\ndef\r\n" % length + END
            if length == 8:
                self.assertEqual(read([body]), ([A, content, PartEnd()], None))
            else:
                self.assert_refused(MalformedForm, body, A, *filter(None, [content]), rules=LENIENT)
        body = b"--B\r\n" + PLAIN + b"Content-Length: 9\r\n\r\nabc\r\ndef\r\n" + END
        self.assert_refused(MalformedForm, body, A, b"abc\r\ndef", rules=LENIENT)

    def test_parts(self) -> None:
        """As many parts as the rules take, and no more."""
        for most, refused in ((3, False), (2, True)):
            _, error = read([ONE * 3 + END], FormRules(most))
            self.assertEqual(isinstance(error, FormTooComplex), refused)

    def test_headers(self) -> None:
        """As many headers, and as long ones, as the rules take, and no more; a folded header counts as one line."""
        rules = FormRules(1, max_headers=3, max_header=len(PLAIN))
        for headers, kind in (
            (b"X: y\r\n" * 2, type(None)),
            (b"X: y\r\n" * 3, FormTooComplex),
            (b"X: " + b"y" * (len(PLAIN) - 3) + b"\r\n", type(None)),
            (b"X: " + b"y" * (len(PLAIN) - 2) + b"\r\n", FormTooComplex),
            (b"X: y\r\n " + b"y" * (len(PLAIN) - 5) + b"\r\n", type(None)),
            (b"X: y\r\n " + b"y" * (len(PLAIN) - 4) + b"\r\n", FormTooComplex),
            (b"X" * 1000, FormTooComplex),
            (b"X" * 1000 + b"\n\r\n", FormTooComplex),
        ):
            for cut in (1000, 1):
                body = b"--B\r\n" + PLAIN + headers + b"\r\nx\r\n" + END
                _, error = read([body[i : i + cut] for i in range(0, len(body), cut)], rules)
                self.assertIs(type(error), kind, (headers, cut))

    def test_the_longest_headers(self) -> None:
        """All headers may be as long as the longest, and the name of each counts."""
        rules = FormRules(1, max_headers=3, max_header=len(PLAIN) - 2)
        headers = PLAIN + (b"X: " + b"y" * (len(PLAIN) - 5) + b"\r\n") * 2
        self.assertEqual(read([b"--B\r\n" + headers + b"\r\nx\r\n" + END], rules), ([A, b"x", PartEnd()], None))

    def test_endless_headers(self) -> None:
        """Headers that never end are refused once they are longer than any allowed ones."""
        reader = FormReader(b"B", LENIENT)
        self.assertEqual(list(reader.read(b"--B\r\n" + b"X" * 32000)), [])
        self.assertRaises(FormTooComplex, list, reader.read(b"X" * 1000))

    def test_says_nothing_of_the_form(self) -> None:
        """The message of a fault may be logged: it quotes nothing."""
        for secret in (b"secret: x\r\n", b"secret\r\n", b"secret x: y\r\n", b"Content-Length: secret\r\n", b"secret\n"):
            _, error = read([b"--B\r\n" + secret + b"\r\n" + END])
            self.assertNotIn("secret", repr(error).lower())


ODD = [
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b"-",
        b"--",
        b"B",
        b"--B",
        b"\r\n--B",
        b"\r\n--B--",
        b"--B\r\n",
        b"\r\n--B\r\n",
        b"\r\n\r\n",
    ),
    *(b"Content-Length: 3\r\n", b"X: y\r\n", b" folded\r\n", b"X: " + b"y" * 30, b":", b"\0\xff", PLAIN, ONE, END),
]
"""What forms are made of, and spoilt with."""

SMALL = FormRules(max_parts=2, max_headers=2, max_header=45)
"""Rules whose limits random bodies meet."""


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Forms, most of them spoilt in some way, and noise made of a form's parts."""
    if draw(st.booleans()):
        return b"".join(draw(st.lists(st.one_of(st.sampled_from(ODD), st.binary(max_size=6)), max_size=12)))
    contents = draw(st.lists(st.one_of(st.binary(max_size=20), st.sampled_from(ODD)), max_size=3))
    headers = st.sampled_from([b"", b"", b"Content-Length: 3\r\n", b"X: y\r\n", b"X: y\r\n folded\r\n"])
    body = b"".join(b"--B\r\n" + PLAIN + draw(headers) + b"\r\n" + content + b"\r\n" for content in contents) + END
    for _ in range(draw(st.integers(0, 2))):
        place, gone = draw(st.integers(0, len(body))), draw(st.sampled_from([0, 0, 1, 2, 30]))
        body = body[:place] + draw(st.sampled_from([b"", *ODD])) + body[place + gone :]
    return body


def described(outcome: Outcome) -> tuple[list[FormEvent], str]:
    """An outcome that can be compared: exceptions can't."""
    events, error = outcome
    return events, repr(error)


class CutTests(SynchronousTestCase):
    """Where a body is cut makes no difference: the events, the fault and its words are the same."""

    @checked
    @given(bodies(), st.sampled_from([LENIENT, STRICT, SMALL]), st.lists(st.integers(0, 300), max_size=12))
    def test_any_cut(self, body: bytes, rules: FormRules, places: list[int]) -> None:
        """A few cuts, some of them at the same place, so that pieces may be empty."""
        marks = sorted([0, len(body), *(place % (len(body) + 1) for place in places)])
        pieces = [body[start:end] for start, end in itertools.pairwise(marks)]
        self.assertEqual(described(read(pieces, rules)), described(read([body], rules)))

    @checked
    @given(bodies(), st.sampled_from([LENIENT, STRICT, SMALL]))
    def test_byte_by_byte(self, body: bytes, rules: FormRules) -> None:
        """All cuts at once."""
        pieces = [body[i : i + 1] for i in range(len(body))]
        self.assertEqual(described(read(pieces, rules)), described(read([body], rules)))

    @checked
    @given(st.binary(max_size=200), st.integers(1, 50))
    def test_any_bytes(self, body: bytes, size: int) -> None:
        """Noise raises nothing else, and reads the same."""
        pieces = [body[i : i + size] for i in range(0, len(body), size)]
        self.assertEqual(described(read(pieces)), described(read([body])))
        opening = b"--B\r\n" + PLAIN + b"\r\n"
        self.assertEqual(described(read([opening, *pieces])), described(read([opening + body])))


class PeerTests(SynchronousTestCase):
    """Another reader of the same format: the package's own parser."""

    @checked
    @given(bodies())
    def test_reads_as_the_package_does(self, body: bytes) -> None:
        """Whatever is a form to the reader is the same form to the package, given whole, without its preamble."""
        events, error = read([body])
        assume(error is None)
        parser = PushMultipartParser(b"B", header_charset="latin-1")
        theirs: list[tuple[str | None, bytes]] = []
        try:
            for event in parser.parse((b"\r\n" + body)[(b"\r\n" + body).index(b"\r\n--B") :]):
                if isinstance(event, MultipartSegment):
                    # It was told to take the bytes for Latin-1; ours takes them for UTF-8.
                    name = None if event.name is None else event.name.encode("latin-1").decode("utf-8", "replace")
                    theirs.append((name, b""))
                elif event is not None:
                    theirs[-1] = (theirs[-1][0], theirs[-1][1] + event)
            parser.close()
        except MultipartError as refused:
            self.fail(f"the package refuses it: {refused}")
        ours: list[tuple[str | None, bytes]] = []
        for one in events:
            if isinstance(one, FormPart):
                ours.append((one.name or "", b""))
            elif isinstance(one, bytes):
                ours[-1] = (ours[-1][0], one)
        self.assertEqual(ours, theirs)
