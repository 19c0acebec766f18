"""Lets ``twistd merlind`` find merlind."""

from twisted.application.service import ServiceMaker

merlind = ServiceMaker("merlind", "merlind.tap", "Tells how well a name suits a person by a photo.", "merlind")
