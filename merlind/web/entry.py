"""The one entry point as far as it needs no router: what takes a request's body, and the plain status request."""

from twisted.internet.defer import Deferred
from twisted.web.resource import IResource

from merlind.tasks.gateway import Gateway, OverCapacity
from merlind.web.response import NOT_ALLOWED, HTTPError, Response, problem, unavailable
from merlind.web.server.site import EdgeRequest, IgnoredBody
from merlind.web.status import StatusResponses
from merlind.web.upload import FORM_OVERHEAD, PhotoForm, boundary_of


class EntryPoint:
    """What requests at ``/`` are for."""

    def __init__(self, gateway: Gateway, status: StatusResponses, max_photo_bytes: int, resource: IResource) -> None:
        self._gateway = gateway
        self._status = status
        self._max_photo_bytes = max_photo_bytes
        self.resource = resource

    def receive(self, request: EdgeRequest, length: int | None) -> "PhotoForm | IgnoredBody | None":
        """Decide by its headers what a request's body goes to. Raises Refusal."""
        if request.method == b"POST" and request.path == b"/":
            return self._open_form(request, length)
        return None if length == 0 else IgnoredBody(length)

    def _open_form(self, request: EdgeRequest, length: int | None) -> PhotoForm:
        boundary = boundary_of(request.getHeader(b"Content-Type"))
        most = self._max_photo_bytes + FORM_OVERHEAD
        if length is not None and length > most:
            raise HTTPError(problem(413, "too_large", f"a photo may have {self._max_photo_bytes} bytes at most"))
        if length == 0 and not request.requestHeaders.hasHeader(b"Content-Length"):
            raise HTTPError(problem(411, "length_required", "send a Content-Length, or the body in chunks"))
        try:
            upload = self._gateway.open_upload(most if length is None else length)
        except OverCapacity as full:
            raise HTTPError(unavailable("full", str(full))) from full
        return PhotoForm(boundary, upload, self._max_photo_bytes)

    def at_once(self, request: bytes) -> Response | None:
        """The answer to the bytes of one whole request, if it is plain and memory has it."""
        return self._status.at_once(request)

    def before_routing(self, request: EdgeRequest) -> "Response | Deferred[Response] | None":
        """The answer to a request that needs no routing; None if it isn't one."""
        if request.method != request.method.upper():
            return NOT_ALLOWED  # RFC 9110, 9.1: methods are case-sensitive; to the router they aren't
        return self._status.before_routing(request)
