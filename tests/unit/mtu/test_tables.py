"""
Every figure of the published tables, and each of them again by another way: packets built up from the smallest.

The tables: encapsulations without protection over a link of 1500; ESP suites over 1500 and over PPPoE's 1492. The other way knows
nothing of layers: `_built` adds up one packet as RFCs draw it; the inner MTU must be its largest size at or below the link.
"""

from __future__ import annotations

import pytest

from ginnel import mtu

#: Stack over IPv4, over IPv6 (0: there is none), of a 1500 link.
PLAIN = [
    ("ipip", 1480, 0),
    ("sit", 1480, 0),
    ("ip6tnl", 0, 1460),
    ("gre", 1476, 1456),
    ("gre+key", 1472, 1452),
    ("gre+key+seq", 1468, 1448),
    ("gre+csum+key+seq", 1464, 1444),
    ("ip6gre+encaplimit", 0, 1448),
    ("gretap", 1462, 1442),
    ("gretap+key", 1458, 1438),
    ("gre-in-udp", 1468, 1448),
    ("gre-in-udp+key", 1464, 1444),
    ("eoip", 1458, 1444),
    ("wireguard", 1440, 1420),
]

#: Suite: a row each for IPv4, IPv4 in UDP, IPv6, IPv6 in UDP. Columns: ESP alone, GRE and GRE with a key in transport mode,
#: the same in tunnel mode, IPv4 MSS of GRE in transport mode. A link of 1500.
SUITES_1500 = {
    "aes128gcm16": (
        "1446 1442 1438 1422 1418 1402",
        "1438 1434 1430 1414 1410 1394",
        "1426 1422 1418 1382 1378 1382",
        "1418 1414 1410 1374 1370 1374",
    ),
    "chacha20poly1305": (
        "1446 1442 1438 1422 1418 1402",
        "1438 1434 1430 1414 1410 1394",
        "1426 1422 1418 1382 1378 1382",
        "1418 1414 1410 1374 1370 1374",
    ),
    "aes128gcm16iiv": (
        "1454 1450 1446 1430 1426 1410",
        "1446 1442 1438 1422 1418 1402",
        "1434 1430 1426 1390 1386 1390",
        "1426 1422 1418 1382 1378 1382",
    ),
    "aes128gcm12": (
        "1450 1446 1442 1426 1422 1406",
        "1442 1438 1434 1418 1414 1398",
        "1430 1426 1422 1386 1382 1386",
        "1422 1418 1414 1378 1374 1378",
    ),
    "aes128gcm8": (
        "1454 1450 1446 1430 1426 1410",
        "1446 1442 1438 1422 1418 1402",
        "1434 1430 1426 1390 1386 1390",
        "1426 1422 1418 1382 1378 1382",
    ),
    "aes128-sha256": (
        "1438 1434 1430 1414 1410 1394",
        "1422 1418 1414 1398 1394 1378",
        "1406 1402 1398 1362 1358 1362",
        "1406 1402 1398 1362 1358 1362",
    ),
    "aes128-sha1": (
        "1438 1434 1430 1414 1410 1394",
        "1422 1418 1414 1398 1394 1378",
        "1422 1418 1414 1378 1374 1378",
        "1406 1402 1398 1362 1358 1362",
    ),
    "aes128-sha384": (
        "1422 1418 1414 1398 1394 1378",
        "1422 1418 1414 1398 1394 1378",
        "1406 1402 1398 1362 1358 1362",
        "1390 1386 1382 1346 1342 1346",
    ),
    "aes128-sha512": (
        "1422 1418 1414 1398 1394 1378",
        "1406 1402 1398 1382 1378 1362",
        "1390 1386 1382 1346 1342 1346",
        "1390 1386 1382 1346 1342 1346",
    ),
    "aes128ctr-sha256": (
        "1446 1442 1438 1422 1418 1402",
        "1438 1434 1430 1414 1410 1394",
        "1426 1422 1418 1382 1378 1382",
        "1418 1414 1410 1374 1370 1374",
    ),
    "null-sha256": (
        "1454 1450 1446 1430 1426 1410",
        "1446 1442 1438 1422 1418 1402",
        "1434 1430 1426 1390 1386 1390",
        "1426 1422 1418 1382 1378 1382",
    ),
    "3des-sha1": (
        "1446 1442 1438 1422 1418 1402",
        "1438 1434 1430 1414 1410 1394",
        "1430 1426 1422 1386 1382 1386",
        "1422 1418 1414 1378 1374 1378",
    ),
}
#: The same of a link of 1492, without the last two columns.
SUITES_1492 = {
    "aes128gcm16": (
        "1438 1434 1430 1414",
        "1430 1426 1422 1406",
        "1418 1414 1410 1374",
        "1410 1406 1402 1366",
    ),
    "aes128-sha256": (
        "1422 1418 1414 1398",
        "1422 1418 1414 1398",
        "1406 1402 1398 1362",
        "1390 1386 1382 1346",
    ),
}
OUTERS: list[tuple[mtu.Family, bool]] = [(4, False), (4, True), (6, False), (6, True)]


def columns(suite: str, nat_t: bool) -> list[str]:
    """The stacks of the ESP tables, in their order."""
    tail = ",nat-t" if nat_t else ""
    return [
        f"esp({suite}{tail})",
        f"gre+esp({suite},transport{tail})",
        f"gre+key+esp({suite},transport{tail})",
        f"gre+esp({suite},tunnel{tail})",
        f"gre+key+esp({suite},tunnel{tail})",
    ]


def esp_rows(table: dict[str, tuple[str, ...]], link: int) -> list[tuple[str, mtu.Family, int, list[int]]]:
    return [
        (suite, family, nat_t, link, [int(cell) for cell in row.split()])
        for suite, rows in table.items()
        for (family, nat_t), row in zip(OUTERS, rows, strict=True)
    ]


@pytest.mark.parametrize(("text", "over4", "over6"), PLAIN)
def test_without_protection(text: str, over4: int, over6: int) -> None:
    families: list[tuple[mtu.Family, int]] = [(4, over4), (6, over6)]
    for family, expected in families:
        if not expected:
            with pytest.raises(mtu.StackError):
                mtu.parse(text, family)
            continue
        found = mtu.parse(text, family).sum(1500)
        assert found.inner == expected
        if 4 in mtu.parse(text, family).carries:
            assert found.mss4 == expected - 40


@pytest.mark.parametrize(("suite", "family", "nat_t", "link", "cells"), esp_rows(SUITES_1500, 1500) + esp_rows(SUITES_1492, 1492))
def test_esp(suite: str, family: mtu.Family, nat_t: bool, link: int, cells: list[int]) -> None:
    sums = [mtu.parse(text, family).sum(link) for text in columns(suite, nat_t)]
    count = 5 if link == 1500 else 4
    assert [each.inner for each in sums[:count]] == cells[:count]
    if link == 1500:
        assert sums[1].mss4 == cells[5]


@pytest.mark.parametrize(
    ("text", "family", "inner"),
    [("gre", 4, 1468), ("gre+key", 4, 1464), ("wireguard", 4, 1432), ("wireguard", 6, 1412)],
)
def test_pppoe(text: str, family: mtu.Family, inner: int) -> None:
    assert mtu.parse(text, family).sum(1492).inner == inner
    assert mtu.parse(f"{text}+pppoe", family).sum(1500).inner == inner


def test_the_kernels_own_selftest() -> None:
    """tools/testing/selftests/net/xfrm_state.sh, mtu_ipv6_r2: a 1300 link, AES-GCM with an ICV of 96 bits: "mtu=1230"."""
    assert mtu.parse("esp(aes128gcm96,tunnel)", 6).sum(1300).inner == 1230


def test_the_rule_of_1400_and_where_it_breaks() -> None:
    """`ip mtu 1400` is safe for GRE in transport mode but for the longest checksums over IPv6; in tunnel mode 2 too much."""
    below = {
        (suite, family, nat_t)
        for suite in SUITES_1500
        for family, nat_t in OUTERS
        if mtu.parse(columns(suite, nat_t)[1], family).sum(1500).inner < 1400
    }
    assert below == {("aes128-sha384", 6, True), ("aes128-sha512", 6, False), ("aes128-sha512", 6, True)}
    assert mtu.parse("gre+esp(aes128-sha256,tunnel,nat-t)", 4).sum(1500).inner == 1398


# ---------------------------------------------------------------- the other way

#: Block, IV, ICV.
SHAPES = {
    "aes128gcm16": (4, 8, 16),
    "chacha20poly1305": (4, 8, 16),
    "aes128gcm16iiv": (4, 0, 16),
    "aes128gcm12": (4, 8, 12),
    "aes128gcm8": (4, 8, 8),
    "aes128-sha256": (16, 16, 16),
    "aes128-sha1": (16, 16, 12),
    "aes128-sha384": (16, 16, 24),
    "aes128-sha512": (16, 16, 32),
    "aes128ctr-sha256": (4, 8, 16),
    "null-sha256": (4, 0, 16),
    "3des-sha1": (8, 8, 12),
}


def _built_esp(suite: str, payload: int) -> int:
    block, iv, icv = SHAPES[suite]
    text = payload
    while (text + 2) % block:
        text += 1
    return 4 + 4 + iv + text + 1 + 1 + icv


def _built(suite: str, column: int, family: mtu.Family, nat_t: bool, inner: int) -> int:
    """One packet from the inside out: what it is on the link."""
    header = 20 if family == 4 else 40
    gre = {0: 0, 1: 4, 2: 8, 3: 4, 4: 8}[column]
    payload = inner + gre + (header if column >= 3 else 0)
    return header + (8 if nat_t else 0) + _built_esp(suite, payload)


@pytest.mark.parametrize("suite", SHAPES)
@pytest.mark.parametrize(("family", "nat_t"), OUTERS)
@pytest.mark.parametrize("link", [576, 1280, 1300, 1400, 1492, 1500, 9000])
def test_m_fits_and_one_more_does_not(suite: str, family: mtu.Family, nat_t: bool, link: int) -> None:
    for column, text in enumerate(columns(suite, nat_t)):
        found = mtu.parse(text, family).sum(link)
        assert _built(suite, column, family, nat_t, found.inner) == found.wire <= link
        assert _built(suite, column, family, nat_t, found.inner + 1) == found.broken_wire > link
        assert link - sum(layer.size_bytes for layer in found.layers) == found.inner


#: What stands before the inner packet, in bytes, by RFC: IP, destination options, UDP, GRE and its fields, Ethernet.
BUILT = {
    ("gre", 4): (20, 4),
    ("gre", 6): (40, 4),
    ("gre+csum", 4): (20, 4, 4),
    ("gre+key+seq", 6): (40, 4, 4, 4),
    ("gre+csum+key+seq", 4): (20, 4, 4, 4, 4),
    ("gretap", 4): (20, 4, 14),
    ("gretap+key+vlan", 6): (40, 4, 4, 14, 4),
    ("ipip", 4): (20,),
    ("sit", 4): (20,),
    ("ip6tnl", 6): (40,),
    ("ip6tnl+encaplimit", 6): (40, 8),
    ("ip6gre+key+encaplimit", 6): (40, 8, 4, 4),
    ("gre-in-udp", 4): (20, 8, 4),
    ("gre-in-udp+key", 6): (40, 8, 4, 4),
    ("gretap-in-udp", 4): (20, 8, 4, 14),
    ("eoip", 4): (20, 8, 14),
    ("eoip", 6): (40, 2, 14),
    ("wireguard", 4): (20, 8, 4, 4, 8, 16),
    ("wireguard", 6): (40, 8, 4, 4, 8, 16),
    ("gre+wireguard", 4): (20, 8, 32, 20, 4),
    ("wireguard+gre+ipv6", 6): (40, 4, 40, 8, 32),
    ("gre+pppoe", 4): (6, 2, 20, 4),
    ("sit+gre", 4): (20, 4, 20),
    ("gre+sit", 4): (20, 40, 4),
}


@pytest.mark.parametrize(("text", "family"), BUILT)
@pytest.mark.parametrize("link", [576, 1280, 1400, 1492, 1500, 9000, 65_535])
def test_plain_stacks_built_up(text: str, family: mtu.Family, link: int) -> None:
    found = mtu.parse(text, family).sum(link)
    taken = sum(BUILT[text, family])
    assert (found.inner, found.wire, found.broken, found.broken_wire) == (link - taken, link, link - taken + 1, link + 1)
    assert sum(layer.size_bytes for layer in found.layers) == taken
