"""Which numeric addresses are on the public internet.

The tables of Python's `ipaddress` differ between its versions, so the ranges that are not public
are listed here, too, by the registries of special addresses at iana.org.
"""

from __future__ import annotations

import ipaddress

_RESERVED_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared by the customers of a provider
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",  # relays to IPv6
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",
        ),
    )
)
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
"""All that is assigned to networks. Whatever is outside of it is local, a group or not in use."""
_RESERVED_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # Teredo, benchmarks, identifiers
            "2001:db8::/32",
            "3fff::/20",
        ),
    )
)
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")
_ISATAP = (0x00005EFE, 0x02005EFE)
"""The upper half of an interface's number whose lower half is its IPv4 address."""


def is_public(address: str) -> bool:
    """Return whether a numeric address is on the public internet, also as IPv4 inside IPv6.

    An address with a zone ("fe80::1%eth0") belongs to one network card, and is not public.
    """
    if "%" in address:
        return False
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return _is_public_v4(parsed)
    number = int(parsed)
    if parsed in _MAPPED or parsed in _NAT64:
        return _is_public_v4(ipaddress.IPv4Address(number & 0xFFFFFFFF))
    if parsed not in _PUBLIC_V6 or any(parsed in network for network in _RESERVED_V6):
        return False
    if parsed in _6TO4:
        # Python calls all of them not global.
        return _is_public_v4(ipaddress.IPv4Address(number >> 80 & 0xFFFFFFFF))
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        return _is_public_v4(ipaddress.IPv4Address(number & 0xFFFFFFFF))
    return parsed.is_global


def _is_public_v4(address: ipaddress.IPv4Address) -> bool:
    return address.is_global and not any(address in network for network in _RESERVED_V4)
