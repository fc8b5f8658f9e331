"""
ginnel's own node files (`node.toml`): GRE, IP in IP, IPsec, WireGuard, and what they ask of the host.

Read by the reader that `ginnel up` has, whose mistakes become findings: a node file with mistakes is nothing that runs. Files of
secrets are named in it, and named by their last part here, since where they lie is each host's own.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ginnel.config import nodefile
from ginnel.config.node import IpsecConfig, PlainConfig
from ginnel.errors import ConfigError
from ginnel.network.host import Place, Tunnel
from ginnel.network.importing import wgquick
from ginnel.network.importing.ours import is_ours, of_nft
from ginnel.network.importing.reading import Notes
from ginnel.network.importing.source import Part


def detect(text: str) -> bool:
    """Whether a text is of this format."""
    return re.search(r"^\s*\[tunnel\.", text, re.MULTILINE) is not None


def read(text: str, interface: str, notes: Notes) -> Part:  # noqa: ARG001 - tunnels say what they are called
    """Read one node file."""
    part = Part(ours=is_ours(text), place=notes.place(0))
    try:
        config = nodefile.parse(text, notes.source, "node")
    except ConfigError as error:
        for mistake in error.mistakes:
            notes.add("G0803", mistake.message, Place(notes.source, mistake.span, mistake.excerpt), mistake.hint)
        return part
    part.tunnels = [Tunnel(_named(plain), place=notes.place(0)) for plain in config.plain]
    for wireguard in config.wireguard:
        read_one = wgquick.read(wireguard.text, wireguard.name, notes)
        keys = {key for key, _ in wireguard.preshared_key_files}
        part.interfaces += [
            replace(
                each,
                peers=tuple(
                    replace(peer, psk=peer.psk or ("?" if peer.public_key and peer.public_key.base64() in keys else ""))
                    for peer in each.peers
                ),
            )
            for each in read_one.interfaces
        ]
    if part.ours or config.host.forward:
        part.forwards = bool(config.host.forward)
    meant = of_nft(config.host.nft)
    part.masquerades, part.mapped = meant.masquerades, meant.mapped
    return part


def _named(config: PlainConfig) -> PlainConfig:
    return config if config.ipsec is None else replace(config, ipsec=without_directories(config.ipsec))


def without_directories(ipsec: IpsecConfig) -> IpsecConfig:
    """With the last parts of its files' names."""

    def last(path: str) -> str:
        return path.rpartition("/")[2]

    return replace(
        ipsec,
        psk_file=last(ipsec.psk_file),
        private_key_file=last(ipsec.private_key_file),
        certificate_files=tuple(map(last, ipsec.certificate_files)),
        ca_files=tuple(map(last, ipsec.ca_files)),
        crl_files=tuple(map(last, ipsec.crl_files)),
        peer_key_file=last(ipsec.peer_key_file),
    )
