"""Which hosts a request to the admin listener may be for."""

from collections.abc import Collection
from ipaddress import ip_address


def is_own_host(host: bytes, names: Collection[str]) -> bool:
    """Whether a Host header can be meant for this machine, whatever page a browser has it from.

    A page of a stranger can make its own name lead here (DNS rebinding), and then read what we respond. It can't do so
    with an address, ``localhost`` or another name without a dot. ``names`` are further ones, in lower case.
    """
    text = host.decode("latin-1").lower()
    name = text.partition("]")[0][1:] if text.startswith("[") else text.partition(":")[0].removesuffix(".")
    if not {".", ":"} & set(name) or name in names or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
