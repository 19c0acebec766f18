"""Which scorer is used: the one that was asked for, or the face scorer where its packages are installed."""

from importlib.util import find_spec

FACE = "face"
STAND_IN = "stand-in"

EXTRA = "merlind[scorer]"
"""What to install for the face scorer."""

_PACKAGES = ("PIL", "anyascii", "numpy", "onnxruntime")


def face_installed() -> bool:
    """Whether the face scorer's packages are installed. They are not imported: this process doesn't need them."""
    return all(find_spec(package) is not None for package in _PACKAGES)


def choose_scorer(asked: str | None, installed: bool) -> str:
    """Return FACE or STAND_IN. Raises ValueError if the face scorer was asked for, and isn't installed."""
    if asked == FACE and not installed:
        raise ValueError(f"the face scorer is not installed: it comes with {EXTRA}")
    return asked or (FACE if installed else STAND_IN)
