"""Compose's files: what each service may do, that every file it names is there, and what lies in whose hands."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ginnel.config import nodefile
from ginnel.errors import UsageError
from ginnel.network.render import NONE, File, Secrets, docker
from unit.network.networks import compiled
from unit.network.render.test_swanctl import SITES

PHONE = """\
[network]
name = "acme"
pool = ["10.10.0.0/24", "fd10:10::/64"]

[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24"]

[node.app]
exit = "paris"
dns = ["10.20.0.53"]
search = ["acme.example"]
"""
KEY = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="


def files(text: str, node: str, secrets: Secrets = NONE) -> dict[str, File]:
    return {file.name: file for file in docker.files(compiled(text)[node], secrets)}


def yaml(text: str) -> Any:
    """The little YAML that is rendered: mappings and lists by indentation, flow lists, JSON's strings, plain words."""
    lines = [
        (len(line) - len(line.lstrip()), line.strip()) for line in text.splitlines() if line.strip() and line.strip()[0] != "#"
    ]

    def scalar(word: str) -> Any:
        if word.startswith('"'):
            return json.loads(word)
        if word.startswith("["):
            return [scalar(part.strip()) for part in word[1:-1].split(",")]
        assert re.fullmatch(r"[A-Za-z0-9_./:-]+", word), word
        return {"true": True, "false": False}.get(word, word)

    def block(at: int, indent: int) -> tuple[Any, int]:
        if lines[at][1].startswith("- "):
            items: list[Any] = []
            while at < len(lines) and lines[at][0] == indent and lines[at][1].startswith("- "):
                rest = lines[at][1][2:]
                if re.match(r"[a-z]+: ", rest):
                    lines[at] = (indent + 2, rest)
                    item, at = block(at, indent + 2)
                    items.append(item)
                else:
                    items.append(scalar(rest))
                    at += 1
            return items, at
        found: dict[str, Any] = {}
        while at < len(lines) and lines[at][0] == indent and not lines[at][1].startswith("- "):
            key, _, word = lines[at][1].partition(":")
            assert key not in found
            at += 1
            if word:
                found[key] = scalar(word.strip())
            else:
                found[key], at = block(at, lines[at][0])
        return found, at

    value, end = block(0, 0)
    assert end == len(lines)
    return value


def test_a_node_with_a_network_of_its_own() -> None:
    made = files(PHONE, "app", Secrets(KEY))
    compose = yaml(made["compose.yaml"].text)
    assert compose == {
        "services": {
            "app-wg0": {
                "build": ".",
                "image": "ginnel",
                "command": ["run", "/etc/wireguard/wg0.conf"],
                "restart": "unless-stopped",
                "read_only": True,
                "tmpfs": ["/run"],
                "cap_drop": ["ALL"],
                "cap_add": ["NET_ADMIN"],
                "devices": ["/dev/net/tun"],
                "sysctls": {"net.ipv4.conf.all.src_valid_mark": "1", "net.ipv6.conf.all.disable_ipv6": "0"},
                "dns": ["10.20.0.53"],
                "dns_search": ["acme.example"],
                "volumes": ["./wg0.conf:/etc/wireguard/wg0.conf:ro"],
                "secrets": [{"source": "wg0-key", "target": "/etc/wireguard/wg0.key"}],
            }
        },
        "secrets": {"wg0-key": {"file": "./wg0.key"}},
    }
    assert made["wg0.key"].secret
    assert made["wg0.key"].text == f"{KEY}\n"
    assert [name for name, file in made.items() if KEY in file.text] == ["wg0.key"]
    assert "DNS" not in made["wg0.conf"].text
    assert "/proc/sys" not in made["wg0.conf"].text


def test_a_node_that_forwards_is_the_hosts() -> None:
    made = files(PHONE, "paris")
    (service,) = yaml(made["compose.yaml"].text)["services"].values()
    assert service["network_mode"] == "host"
    assert not {"ports", "sysctls", "dns"} & set(service)
    assert "#   net.ipv4.ip_forward = 1" in made["compose.yaml"].text
    assert "/proc/sys" not in made["wg0.conf"].text
    assert "masquerade" in made["wg0.conf"].text
    assert "wg0.key" not in made


def test_a_listening_node_publishes_its_port() -> None:
    text = PHONE.replace('lans = ["10.20.0.0/24"]', "").replace('exit = "paris"\n', "").replace("10.20.0.53", "9.9.9.9")
    (service,) = yaml(files(text, "paris")["compose.yaml"].text)["services"].values()
    assert service["ports"] == ["51820:51820/udp"]


@pytest.mark.parametrize("auth", ["psk", "certificate"])
def test_protected_tunnels(auth: str) -> None:
    made = files(SITES.format(kind="gre+ipsec") + f'[ipsec]\nauth = "{auth}"\n', "lyon", Secrets(ipsec={"paris": "a secret"}))
    compose = yaml(made["compose.yaml"].text)
    service = compose["services"]["lyon-tunnels"]
    assert service["command"] == ["run", "/etc/ginnel/node.toml"]
    assert service["cap_add"] == ["NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"]
    (config,) = nodefile.parse(made["node.toml"].text, "/etc/ginnel/node.toml").plain
    assert config.ipsec is not None
    inside = {volume.split(":")[1] for volume in service["volumes"]} | {secret["target"] for secret in service["secrets"]}
    named = {config.ipsec.psk_file, config.ipsec.private_key_file, *config.ipsec.certificate_files, *config.ipsec.ca_files}
    assert named - {""} <= inside, "every file that the node file names is in the container"
    assert ("paris.psk" in made) == (auth == "psk")
    for secret in service["secrets"]:
        assert compose["secrets"][secret["source"]]["file"] == "./" + secret["target"].rpartition("/")[2]


def test_what_is_not_a_containers_is_refused() -> None:
    with pytest.raises(UsageError, match="resolvers"):
        files(PHONE.replace("[node.paris]", '[node.paris]\ndns = ["9.9.9.9"]'), "paris")


def test_a_dollar_is_not_composes() -> None:
    assert docker._scalar("a$b") == '"a$$b"'


def test_the_image_has_what_up_calls() -> None:
    dockerfile = files(PHONE, "app")["Dockerfile"].text
    for package in ("iproute2", "nftables", "wireguard-tools"):
        assert package in dockerfile
