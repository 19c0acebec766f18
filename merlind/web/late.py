"""A resource that is made when the first request asks for it, or when there is time."""

from collections.abc import Callable
from functools import cached_property

from twisted.web.resource import IResource, Resource
from twisted.web.server import Request


class LateResource(Resource):
    """Stands for the resource that ``make`` returns.

    Importing the router takes as long as all the rest of merlind, and who asks for a task's status needs none.
    """

    isLeaf = True

    def __init__(self, make: Callable[[], IResource]) -> None:
        super().__init__()
        self._make = make

    @cached_property
    def _made(self) -> IResource:
        return self._make()

    def load(self) -> None:
        """Make it now."""
        self._made  # noqa: B018

    def render(self, request: Request) -> object:
        """Let it answer."""
        return self._made.render(request)
