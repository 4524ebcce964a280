"""Addresses of private networks in every spelling and every wrapping of IPv4 in IPv6."""

from __future__ import annotations

import ipaddress

import pytest

from rvc_jax.data.fetch.addresses import is_public

PRIVATE_V4 = (
    "0.1.2.3",
    "10.255.255.255",
    "100.127.255.255",
    "127.0.0.1",
    "169.254.169.254",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.0.192",
    "192.0.2.7",
    "192.88.99.1",
    "192.168.0.1",
    "198.19.255.255",
    "198.51.100.4",
    "203.0.113.9",
    "239.255.255.250",
    "255.255.255.255",
    "254.1.2.3",
)
PUBLIC_V4 = ("1.1.1.1", "8.8.8.8", "93.184.215.14", "192.88.98.255", "198.17.255.255")


def embed(prefix: str, address: str, shift: int = 0) -> str:
    number = int(ipaddress.IPv6Address(prefix)) | int(ipaddress.IPv4Address(address)) << shift
    return str(ipaddress.IPv6Address(number))


@pytest.mark.parametrize("address", PRIVATE_V4)
def test_private_ipv4_is_not_public_however_it_is_wrapped(address: str) -> None:
    assert not is_public(address)
    for prefix in ("::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::"):
        assert not is_public(embed(prefix, address))
    assert not is_public(embed("2002::", address, 80))
    assert not is_public(embed("2001::", address))
    assert not is_public(embed("2606:4700::5efe:0:0", address))
    assert not is_public(embed("2606:4700::200:5efe:0:0", address))


@pytest.mark.parametrize("address", PUBLIC_V4)
def test_public_ipv4_is_public_where_the_wrapping_leads_to_it(address: str) -> None:
    assert is_public(address)
    assert is_public(embed("64:ff9b::", address))  # how networks without IPv4 reach it
    assert is_public(embed("::ffff:0:0", address))
    assert is_public(embed("2606:4700::5efe:0:0", address))
    for prefix in ("::", "::ffff:0:0:0", "64:ff9b:1::", "2001::"):
        assert not is_public(embed(prefix, address))


@pytest.mark.parametrize(
    "address",
    [
        "::",
        "::1",
        "100::1",
        "2001::1",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "not an address",
        "",
        "127.1",
        "0x7f000001",
    ],
)
def test_other_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_public_ipv6() -> None:
    for address in ("2606:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001::1", "2400::1"):
        assert is_public(address)
