"""Addresses of computers."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a name or an address is that of this machine, for itself."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
