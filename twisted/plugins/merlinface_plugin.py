"""Lets ``twistd merlinface`` find the scoring API."""

from twisted.application.service import ServiceMaker

merlinface = ServiceMaker(
    "merlinface",
    "merlind.merlinface.tap",
    "Scores how well names suit faces, by merlinface's protocol.",
    "merlinface",
)
