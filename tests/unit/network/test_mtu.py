"""MTU arithmetic against the figures everybody knows."""

from __future__ import annotations

import pytest

from ginnel.network import mtu


@pytest.mark.parametrize(
    ("underlay", "outer", "inner"),
    [(1500, "any", 1420), (1500, "ipv4", 1440), (1492, "any", 1412), (9000, "any", 8920), (1360, "any", 1280)],
)
def test_wireguard(underlay: int, outer: mtu.Outer, inner: int) -> None:
    assert mtu.wireguard(underlay, outer).inner == inner


def test_the_layers_are_named_and_add_up() -> None:
    found = mtu.wireguard(1500, "ipv4")
    assert str(found) == "1500 - 20 (IPv4) - 8 (UDP) - 16 (WireGuard) - 16 (tag) = 1440"
    assert found.underlay - sum(layer.size_bytes for layer in found.layers) == found.inner
