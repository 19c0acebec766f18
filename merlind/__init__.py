"""A Twisted daemon that tells how well a name suits a person by the person's photo."""

__version__ = "1.0.0"
