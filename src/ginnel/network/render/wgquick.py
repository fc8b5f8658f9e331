"""
A node description as a wg-quick file: what `ginnel up` and stock `wg-quick up` both run.

Names travel as `# Name =` comments, the convention that `ginnel show` and several exporters read. What wg-quick has no key
for (forwarding, hiding an exit's clients, policy routes, keys in files of their own) becomes hooks in plain words of /proc, nft,
ip and wg, so that the file alone is the whole node; the node's own hooks come after them, and before them when it goes down.
wg-quick ends every line at `#`, quotes or not, so no hook may have one. The same description renders to the same bytes.

Without secrets, keys are where `setconf` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ginnel.errors import UsageError
from ginnel.network.compile import NodeDescription
from ginnel.network.hostrules import of_wireguard
from ginnel.network.render import NONE, File, Secrets, hostfiles, interfaces, setconf, sound, title


def files(description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
    """NAME.conf of each interface; UsageError where there is no WireGuard link."""
    sound.check(description, secrets)
    if description.tunnels and description.node.runs == "wg-quick":
        raise UsageError(f"{description.name} runs wg-quick, which knows no {description.tunnels[0].config.kind}")
    if not interfaces(description):
        raise UsageError(f"{description.name} has no WireGuard link, and wg-quick knows nothing else\n  hint: --as node")
    return tuple(_file(each, secrets) for each in interfaces(description))


def _file(description: NodeDescription, secrets: Secrets) -> File:
    text = render(description, secrets.private_key, secrets.psk)
    return File(f"{description.interface}.conf", text.encode(), "/etc/wireguard/", setconf.is_secret(description, secrets))


def render(description: NodeDescription, private_key: str = "", psk: Mapping[str, str] = NONE.psk) -> str:
    """
    Render the file for one node.

    Args:
        description: what the node runs.
        private_key: its private key in base64, where the text goes straight into a 0600 file on the node itself. Without it
            the file holds no secret, and takes the key from /etc/wireguard/NAME.key at `up`.
        psk: preshared keys by peer, base64; those that are not here are taken from /etc/wireguard/NAME.PEER.psk.

    Returns:
        the text of NAME.conf.
    """
    secrets = Secrets(private_key, psk)
    return "\n".join([*_interface(description, secrets), *setconf.peers(description, psk)]) + "\n"


def _interface(description: NodeDescription, secrets: Secrets) -> Iterator[str]:
    node = description.node
    yield title(description)
    yield "[Interface]"
    yield f"# Name = {description.name}"
    if secrets.private_key:
        yield f"PrivateKey = {secrets.private_key}"
    yield f"Address = {', '.join(map(str, description.address))}"
    if description.listen_port:
        yield f"ListenPort = {description.listen_port}"
    yield f"MTU = {description.mtu}"
    if description.dns:
        yield f"DNS = {', '.join((*description.dns, *description.search))}"
    if node.table != "auto":
        yield f"Table = {node.table}"
    if node.fwmark:
        yield f"FwMark = {node.fwmark:#x}"
    for key, command in _hooks(description, secrets):
        if "#" in command:
            raise UsageError(f"{key} of {description.name}: wg-quick ends a line at '#', even in quotes")
        yield f"{key} = {command}"


def _hooks(description: NodeDescription, secrets: Secrets) -> Iterator[tuple[str, str]]:
    rules, table = of_wireguard(description), hostfiles.table_name(description)
    for name, value in rules.sysctls:
        yield "PostUp" if hostfiles.of_device(name) else "PreUp", hostfiles.setting(name, value)
    for command in setconf.key_commands(description, secrets, "%i"):
        yield "PostUp", command
    if firewall := hostfiles.nft_up(rules, table):
        yield "PostUp", firewall
    for command in hostfiles.up(rules):
        yield "PostUp", command
    yield from description.node.hooks if not description.beside_of else ()
    for command in hostfiles.down(rules, table):
        yield "PostDown", command
