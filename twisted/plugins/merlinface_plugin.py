"""Lets ``twistd merlinface`` find the stand-in of the upstream."""

from twisted.application.service import ServiceMaker

merlinface = ServiceMaker(
    "merlinface",
    "merlind.merlinface.tap",
    "A stand-in for merlinface, whose scores mean nothing.",
    "merlinface",
)
