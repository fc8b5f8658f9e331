"""Nothing secret of what is read gets anywhere: not into hosts, findings, reprs, network files, lock files or errors."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ginnel.network import render_lock
from ginnel.network.importing import Source, read_hosts
from ginnel.network.importing.infer import infer
from ginnel.network.lint import lint
from ginnel.network.plan import plan
from ginnel.network.plan.text import render
from unit.network.importing.fleets import base64_of, filled, preshared_key, private_key

PRIVATE, PSK, WORD = base64_of(private_key("canary")), preshared_key("canary", "hub"), "correct-horse-battery-9"

FORMATS = {
    "lyon/wg0.conf": f"""\
[Interface]
PrivateKey = {PRIVATE}
Address = 10.0.0.1/24
PostUp = echo {WORD} | login --password {WORD}
PostUp = wg set %i private-key {PRIVATE}
PreUp = curl https://me:{WORD}@example.org/
Secret = {WORD}
PresharedKey = {PSK}
[Peer]
PublicKey = @public hub@
PresharedKey = {PSK}
AllowedIPs = 10.0.0.2/32, {PSK}
Endpoint = {PRIVATE}
# PrivateKey = {PRIVATE}
# {PSK}
{PRIVATE}
""",
    "lyon/wrong.conf": f"[Interface]\nPrivateKey = {PRIVATE}{WORD}\n[Peer]\nPublicKey = {PRIVATE[:-2]}\nPresharedKey = {WORD}\n",
    "lyon/wg1-dump.txt": f"{PRIVATE}\t@public canary@\t51820\toff\n@public hub@\t{PSK}\t(none)\t10.0.0.2/32\t0\t0\t0\toff\n"
    f"{PSK}\n",
    "lyon/10-wg2.netdev": f"""\
[NetDev]
Name=wg2
Kind=wireguard
[WireGuard]
PrivateKey={PRIVATE}
[WireGuardPeer]
PublicKey=@public hub@
PresharedKey={PSK}
Password={WORD}
PresharedKey={WORD}
""",
    "lyon/wg3.nmconnection": f"""\
[connection]
type=wireguard
interface-name=wg3
secret={WORD}
[wireguard]
private-key={PRIVATE}
private-key={WORD}
[wireguard-peer.@public hub@]
preshared-key={PSK}
[wireguard-peer.{PRIVATE[:-2]}]
""",
    "lyon/swanctl.conf": f"""\
connections {{ site {{ local_addrs = 198.51.100.1
    remote_addrs = {WORD}@x
    local {{ auth = psk
      pin = {WORD} }}
    children {{ net {{ rekey_time = {WORD} }} }} }} }}
secrets {{
  ike-site {{ id = a
    secret = "{WORD}" }}
  private-x {{ secret = {WORD} }}
}}
{WORD}
""",
    "lyon/node.toml": f'[tunnel.wg0]\nkind = "wireguard"\nprivate_key = "{PRIVATE}"\npsk = "{WORD}"\n',
    "lyon/ip-link.json": f'[{{"ifname": "gre1", "linkinfo": {{"info_kind": "gre", "info_data": {{"remote": "{PSK}"}}}}}}]',
}


@pytest.mark.parametrize("path", FORMATS)
def test_no_canary_comes_out(path: str) -> None:
    imported = read_hosts([Source(path, filled(FORMATS[path]).encode(), mode=0o600)])
    inferred = infer(imported.hosts)
    changed = plan([], imported.hosts)
    findings = (*imported.findings, *inferred.findings, *lint(imported.hosts))
    told = [
        repr(imported),
        repr(inferred),
        repr([dataclasses.asdict(finding) for finding in findings]),
        inferred.text,
        render_lock(inferred.lock),
        render(changed),
        render(plan(imported.hosts, [])),
        json.dumps(changed.json()),
    ]
    for canary in (PRIVATE, PRIVATE[:-2], PSK, WORD):
        assert not any(canary in text for text in told), f"{canary} is in {next(text for text in told if canary in text)[:3000]}"
    assert imported.findings or path.endswith("dump.txt")


def test_a_source_does_not_show_its_content() -> None:
    assert PRIVATE not in repr(Source("x", PRIVATE.encode()))


def test_a_host_knows_which_of_its_files_hold_secrets() -> None:
    sources = [Source("a/wg0.conf", filled("[Interface]\nPrivateKey = @private a@\n").encode(), mode=0o644)]
    sources.append(Source("a/wg1.conf", b"[Interface]\nListenPort = 1\n", mode=0o644))
    (host,) = read_hosts(sources).hosts
    assert [(secret.path, secret.mode) for secret in host.secrets] == [("a/wg0.conf", 0o644)]
