"""swanctl's files: exact, of the same proposals and identities as the other end's, and closed where IPsec is not."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from ginnel.errors import UsageError
from ginnel.network.render import NONE, File, Secrets, hostfiles, swanctl
from unit.network.networks import compiled

SITES = """\
[network]
name = "acme"
pool = ["10.10.0.0/24"]
kind = "{kind}"

[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24"]

[node.lyon]
endpoint = "198.51.100.20"
lans = ["10.30.0.0/24"]
"""

CONNECTIONS = """\
# acme: lyon. Rendered by ginnel; changes belong in the network file.
# Devices, and rules without which GRE could leave in clear, are made by acme.sh up, beside; then:
# swanctl --load-all
connections {
  acme-paris {
    version = 2
    mobike = no
    local_addrs = 198.51.100.20
    remote_addrs = 203.0.113.10
    proposals = aes256gcm16-prfsha384-x25519
    encap = yes
    rekey_time = 14400s
    dpd_delay = 30s
    local {
      auth = psk
      id = lyon.acme
    }
    remote {
      auth = psk
      id = paris.acme
    }
    children {
      acme-paris {
        mode = transport
        local_ts = dynamic[gre]
        remote_ts = dynamic[gre]
        esp_proposals = aes256gcm16-x25519
        rekey_time = 3600s
        start_action = trap
        dpd_action = trap
        close_action = trap
      }
    }
  }
}
"""
GIVEN = Secrets(ipsec={"paris": 'a "quoted" \\ secret'})


def files(text: str, node: str = "lyon", secrets: Secrets = NONE) -> dict[str, File]:
    return {file.name: file for file in swanctl.files(compiled(text)[node], secrets)}


def settings(text: str) -> dict[str, str]:
    """Every value of a file by the path of its sections: `a.b.key`."""
    found: dict[str, str] = {}
    path: list[str] = []
    for line in text.splitlines():
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        if words.endswith("{"):
            path.append(words[:-1].strip())
        elif words == "}":
            path.pop()
        else:
            key, value = words.split(" = ", 1)
            assert ".".join([*path, key]) not in found
            found[".".join([*path, key])] = value
    assert not path
    return found


def test_the_exact_files() -> None:
    made = files(SITES.format(kind="gre+ipsec"), secrets=GIVEN)
    assert made["acme.conf"].text == CONNECTIONS
    assert made["acme.secrets.conf"].secret
    assert (
        made["acme.secrets.conf"].text
        == """\
# acme: lyon. Rendered by ginnel; changes belong in the network file.
secrets {
  ike-acme-paris {
    id-1 = lyon.acme
    id-2 = paris.acme
    secret = "a \\"quoted\\" \\\\ secret"
  }
}
"""
    )
    script = made["acme.sh"]
    assert script.executable
    assert not script.secret
    assert "quoted" not in script.text + made["acme.conf"].text


def test_the_secret_of_nobody_is_a_comment() -> None:
    made = files(SITES.format(kind="gre+ipsec"))
    assert set(made) == {"acme.conf", "acme.sh"}
    waiting = [line for line in made["acme.conf"].text.splitlines() if "PUT-THE-SECRET" in line]
    assert len(waiting) == 1
    assert waiting[0].startswith("#")
    assert not any(file.secret for file in made.values())


@pytest.mark.parametrize("kind", ["gre+ipsec", "ipsec"])
@pytest.mark.parametrize(
    "options", ["", 'mode = "tunnel"\nencapsulation = "raw"\nrekey = 600\nesp = ["aes128gcm16", "aes256-sha256"]\n']
)
def test_both_ends_say_the_same(kind: str, options: str) -> None:
    """strongSwan's file against the node file of the other end, value by value."""
    text = SITES.format(kind=kind) + f"[ipsec]\n{options}"
    theirs = compiled(text)["paris"].tunnel("lyon").config.ipsec
    ours = settings(files(text)["acme.conf"].text)
    assert theirs is not None
    at, child = "connections.acme-paris", "connections.acme-paris.children.acme-paris"
    assert ours[f"{at}.proposals"] == ", ".join(theirs.ike_proposals)
    assert ours[f"{child}.esp_proposals"] == ", ".join(theirs.esp_proposals)
    assert ours[f"{child}.mode"] == theirs.mode
    assert (ours[f"{at}.local.id"], ours[f"{at}.remote.id"]) == (theirs.remote_id, theirs.local_id)
    assert ours.get(f"{at}.encap", "no") == ("yes" if theirs.encapsulation == "udp" else "no")
    assert ours[f"{child}.local_ts"] == ("0.0.0.0/0, ::/0" if kind == "ipsec" else "dynamic[gre]")
    assert ours[f"{child}.rekey_time"] == f"{theirs.rekey_s}s"


def test_the_end_that_begins_goes_on_beginning() -> None:
    ours = settings(files(SITES.format(kind="gre+ipsec"), "paris")["acme.conf"].text)
    child = "connections.acme-lyon.children.acme-lyon"
    actions = [ours[f"{child}.{event}_action"] for event in ("start", "dpd", "close")]
    assert (actions, ours["connections.acme-lyon.keyingtries"]) == (["start", "restart", "start"], "0")


def test_nothing_of_a_protected_tunnel_passes_beside_ipsec() -> None:
    script = files(SITES.format(kind="gre+ipsec"))["acme.sh"].text
    up = script[: script.index("down)")]
    assert "ip daddr 203.0.113.10 meta l4proto gre rt ipsec missing drop" in up
    assert "ip saddr 203.0.113.10 meta l4proto gre meta ipsec missing drop" in up
    assert up.index("ipsec missing drop") < up.index("ip link add")


def test_a_link_without_gre_is_an_xfrm_interface_with_the_number_of_its_child() -> None:
    made = files(SITES.format(kind="ipsec"))
    ours = settings(made["acme.conf"].text)
    number = ours["connections.acme-paris.children.acme-paris.if_id_in"]
    assert number == ours["connections.acme-paris.children.acme-paris.if_id_out"] != "0"
    assert f"ip link add sec-paris type xfrm dev lo if_id {number}\n" in made["acme.sh"].text


def test_certificates_lie_where_swanctl_has_them() -> None:
    ours = settings(files(SITES.format(kind="gre+ipsec") + '[ipsec]\nauth = "certificate"\n')["acme.conf"].text)
    at = "connections.acme-paris"
    assert (ours[f"{at}.local.auth"], ours[f"{at}.local.certs"]) == ("pubkey", "node.crt")
    assert (ours[f"{at}.remote.auth"], ours[f"{at}.remote.cacerts"]) == ("pubkey", "ca.crt")


def test_beside_wireguard_the_hosts_rules_are_in_its_file_alone() -> None:
    text = SITES.format(kind="gre+ipsec") + '\n[node.oslo]\n\n[[link]]\nbetween = ["lyon", "oslo"]\nkind = "wireguard"\n'
    made = files(
        text.replace('kind = "gre+ipsec"', 'kind = "gre+ipsec"\nshape = "none"') + '[[link]]\nbetween = ["paris", "lyon"]\n'
    )
    assert "ip_forward" in made["wg0.conf"].text
    assert "ip_forward" not in made["acme.sh"].text
    assert "rt ipsec missing drop" in made["acme.sh"].text
    description = compiled(SITES.format(kind="gre+ipsec"))["lyon"]
    chains = {name for name, _, _ in hostfiles.rules_of(description).chains}
    assert {"tunnel_segments", "own_segments"} <= chains, "swanctl tells them by these names"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SITES.format(kind="gre"), "no link that IPsec protects"),
        (SITES.format(kind="wireguard"), "no link that IPsec protects"),
        (SITES.format(kind="gre+ipsec").replace('endpoint = "203.0.113.10"', ""), "needs an address to send to"),
        (SITES.format(kind="gre+ipsec").replace("203.0.113.10", "paris.example.org"), "needs an address to send to"),
    ],
)
def test_what_it_is_not_for(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        files(text)


def test_a_peer_behind_nat_without_gre() -> None:
    ours = settings(files(SITES.format(kind="ipsec").replace('endpoint = "203.0.113.10"', ""))["acme.conf"].text)
    assert ours["connections.acme-paris.remote_addrs"] == "%any"
    assert ours["connections.acme-paris.children.acme-paris.start_action"] == "none"


def test_hooks_without_a_wireguard_interface_are_refused() -> None:
    description = compiled(SITES.format(kind="gre+ipsec"))["lyon"]
    with pytest.raises(UsageError, match="hooks"):
        swanctl.files(replace(description, node=replace(description.node, hooks=(("PostUp", "true"),))))


@pytest.mark.parametrize("secret", ["two\nlines", "a\0b", "bell\x07"])
def test_a_secret_of_several_lines_is_refused_unquoted(secret: str) -> None:
    with pytest.raises(UsageError) as refused:
        files(SITES.format(kind="gre+ipsec"), secrets=Secrets(ipsec={"paris": secret}))
    assert secret not in str(refused.value)


@pytest.mark.parametrize("kind", ["gre+ipsec", "ipsec"])
def test_a_shell_takes_the_script(kind: str) -> None:
    script = files(SITES.format(kind=kind))["acme.sh"].text
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    done = subprocess.run(["sh", "-s"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (2, "usage: acme.sh up|down\n")
