"""Rendering: the exact file, and that the readers of such files understand it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ginnel import crypto
from ginnel.network.render.wgquick import render
from unit.network.networks import HEAD, THREE, compiled

LYON = """\
# acme: lyon. Rendered by ginnel; changes belong in the network file.
[Interface]
# Name = lyon
PrivateKey = KEY
Address = 10.10.0.3/24, fd10:10::3/64
MTU = 1420
PreUp = echo 1 > /proc/sys/net/ipv4/ip_forward
PreUp = echo 1 > /proc/sys/net/ipv6/conf/all/forwarding

[Peer]
# Name = paris
PublicKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
AllowedIPs = 10.10.0.1/32, fd10:10::1/128, 10.20.0.0/24
Endpoint = 203.0.113.10:51820
PersistentKeepalive = 25

[Peer]
# Name = frankfurt
PublicKey = AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
AllowedIPs = 10.10.0.2/32, fd10:10::2/128, 10.30.0.0/24, fd10:30::/64
Endpoint = [2001:db8::20]:4500
PersistentKeepalive = 25
"""


def test_the_exact_file() -> None:
    nodes = compiled(THREE.replace('"198.51.100.20"', '"[2001:db8::20]:4500"'))
    assert render(nodes["lyon"], "KEY") == LYON


def test_without_a_key_the_file_holds_no_secret_and_takes_it_from_the_node() -> None:
    text = render(compiled(THREE)["paris"])
    assert "PrivateKey" not in text
    assert "PostUp = wg set %i private-key /etc/wireguard/%i.key" in text
    assert "ListenPort = 51820" in text


def test_an_exit_hides_its_clients_but_not_towards_its_own_lan() -> None:
    text = (
        HEAD + 'shape = "hub"\nhub = "office"\n[node.office]\nendpoint = "203.0.113.1"\nlans = ["10.23.0.0/24"]\n'
        '[node.phone]\nexit = "office"\ndns = ["10.23.0.53"]\n'
    )
    nodes = compiled(text)
    (rule,) = [line for line in render(nodes["office"], "K").splitlines() if line.startswith("PostUp")]
    assert 'oifname != "wg0" ip saddr { 10.10.0.2/32 } ip daddr != { 10.23.0.0/24 } masquerade' in rule
    assert "ip6 saddr { fd10:10::2/128 } masquerade" in rule
    phone = render(nodes["phone"], "K")
    assert "DNS = 10.23.0.53\n" in phone
    assert "AllowedIPs = 0.0.0.0/0, ::/0\n" in phone
    assert "ip_forward" not in phone


def test_wg_quick_itself_reads_it(tmp_path: Path) -> None:
    key = crypto.generate_private_key().reveal_base64()
    path = tmp_path / "wg0.conf"
    path.write_text(render(compiled(THREE)["lyon"], key))
    path.chmod(0o600)
    stripped = subprocess.run(["wg-quick", "strip", str(path)], capture_output=True, text=True, check=True).stdout
    assert f"PrivateKey = {key}" in stripped
    assert stripped.count("[Peer]") == 2
    assert "Address" not in stripped
