"""
A node's tunnels in containers: a compose.yaml whose services run ginnel, and what they are built from.

    compose.yaml   one service for the wg-quick file, one for the node file, as the node has them
    Dockerfile     Debian's Python, the programs that `ginnel up` calls, and a wheel of ginnel that lies beside (`pip wheel .`)
    the files      what `ginnel run` reads, mounted read-only; keys are Compose's secrets, files on the host with mode 0600

A node that forwards, or whose tunnels are raw (GRE, ESP: a container's bridge passes none), is the host's: `network_mode: host`,
and the settings of the kernel that it needs are named in a comment, since no container may write them. Any other node has a
network of its own, which further containers join by `network_mode: service:NAME`: their only way out is then the tunnel where
the node has an exit.

A service has the capabilities that it needs and no others, and a read-only root: what it writes is under /run.

Source: the Compose specification.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ginnel.errors import UsageError
from ginnel.network.compile import NodeDescription, TunnelDescription
from ginnel.network.render import NONE, File, Secrets, hostfiles, interfaces, node_toml, sound, title, wgquick

_DOCKERFILE = """\
# What runs `ginnel`; the wheel lies beside this file: pip wheel --no-deps --wheel-dir . PATH-OF-GINNEL
FROM python:3.13-slim-bookworm
RUN apt-get update \\
 && apt-get install --yes --no-install-recommends iproute2 nftables wireguard-tools \\
 && rm -rf /var/lib/apt/lists/*
COPY ginnel-*.whl /tmp/
RUN pip install --no-cache-dir /tmp/ginnel-*.whl && rm /tmp/ginnel-*.whl
ENTRYPOINT ["ginnel"]
"""
_WIREGUARD, _GINNEL = "/etc/wireguard", "/etc/ginnel"
#: What the service of the node file is called behind the node's name; no interface is called so.
_TUNNELS = "tunnels"


def files(description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
    """
    See the module; the files of keys are among them as far as *secrets* has them.

    Raises:
        UsageError: hooks, which are a host's; resolvers in the host's own network, which are not a container's to change.
    """
    sound.check(description, secrets)
    if description.node.hooks:
        raise UsageError(f"{description.name} has hooks: they are a host's, and a container has not its programs")
    in_host = description.forwards or bool(description.tunnels)
    if in_host and description.dns:
        raise UsageError(f"{description.name} uses the host's network, whose resolvers (dns) a container does not change")
    made = [
        File("compose.yaml", _text(_compose(description, in_host=in_host)), "./"),
        File("Dockerfile", _DOCKERFILE.encode(), "./"),
    ]
    if interfaces(description):
        made += _quick(description)
    if description.tunnels:
        made.append(File(node_toml.NAME, node_toml.render(description).encode(), "./"))
    given = _keys_of(description, secrets)
    made += [File(name, f"{given[name]}\n".encode(), "./", secret=True) for name in sorted(given) if given[name]]
    return tuple(made)


def _text(lines: Iterable[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _quick(description: NodeDescription) -> Iterator[File]:
    """wg-quick's files without what Compose does: the kernel's settings, which a container cannot write, and resolvers."""
    settings = [hostfiles.setting(name, value) for name, value in hostfiles.rules_of(description).sysctls]
    theirs = {f"{hook} = {setting}" for hook in ("PreUp", "PostUp") for setting in settings}
    for file in wgquick.files(replace(description, dns=(), search=())):
        yield File(file.name, _text(line for line in file.text.splitlines() if line not in theirs), "./")


def _keys_of(description: NodeDescription, secrets: Secrets) -> dict[str, str]:
    """Every file that is a Compose secret, and its content as far as it is known."""
    found: dict[str, str] = {}
    for each in interfaces(description):
        # One private key is all interfaces'.
        found[f"{each.beside_of or each.interface}.key"] = secrets.private_key
        for peer in each.peers:
            if peer.psk:
                found[f"{each.interface}.{peer.name}.psk"] = secrets.psk.get(peer.name, "")
    for tunnel in description.tunnels:
        ipsec = tunnel.config.ipsec
        for name in _secrets_of(tunnel):
            found[name] = secrets.ipsec.get(tunnel.peer, "") if ipsec is not None and name == ipsec.psk_file else ""
    return found


def _secrets_of(tunnel: TunnelDescription) -> tuple[str, ...]:
    ipsec = tunnel.config.ipsec
    return () if ipsec is None else tuple(filter(None, (ipsec.psk_file, ipsec.private_key_file)))


# ---------------------------------------------------------------- compose.yaml


def _compose(description: NodeDescription, *, in_host: bool) -> Iterator[str]:
    yield title(description)
    settings = dict(hostfiles.rules_of(description).sysctls)
    if in_host and settings:
        yield "# It uses the host's network, and the host needs, for ever (in /etc/sysctl.d/):"
        yield from (f"#   {name} = {value}" for name, value in settings.items())
    keys = _keys_of(description, NONE)
    yield "services:"
    for each in interfaces(description):
        own = {
            f"{each.beside_of or each.interface}.key",
            *(f"{each.interface}.{peer.name}.psk" for peer in each.peers if peer.psk),
        }
        path = f"{_WIREGUARD}/{each.interface}.conf"
        yield from _service(description, each.interface, path, own, in_host=in_host)
    if description.tunnels:
        own = {name for tunnel in description.tunnels for name in _secrets_of(tunnel)}
        yield from _service(description, _TUNNELS, f"{_GINNEL}/{node_toml.NAME}", own, in_host=in_host)
    if keys:
        yield "secrets:"
        for name in sorted(keys):
            yield f"  {_secret_name(name)}:"
            yield f"    file: {_scalar('./' + name)}"


def _service(description: NodeDescription, what: str, path: str, keys: set[str], *, in_host: bool) -> Iterator[str]:
    directory, _, file = path.rpartition("/")
    yield f"  {description.name}-{what}:"
    yield "    build: ."
    yield "    image: ginnel"
    yield f"    command: [run, {_scalar(path)}]"
    yield "    restart: unless-stopped"
    yield "    read_only: true"
    yield "    tmpfs: [/run]"
    yield "    cap_drop: [ALL]"
    yield f"    cap_add: [{', '.join(_capabilities(description, what))}]"
    yield "    devices: [/dev/net/tun]"
    if in_host:
        yield "    network_mode: host"
    else:
        yield from _own_network(description)
    yield "    volumes:"
    public = [file]
    if what == _TUNNELS:
        # Beside the node file and not secret: what certificates are checked with.
        public += sorted({name for tunnel in description.tunnels for name in _certificates(tunnel)})
    for name in public:
        yield f"      - {_scalar(f'./{name}:{directory}/{name}:ro')}"
    if keys:
        yield "    secrets:"
        for name in sorted(keys):
            yield f"      - source: {_secret_name(name)}"
            yield f"        target: {_scalar(f'{directory}/{name}')}"


def _certificates(tunnel: TunnelDescription) -> tuple[str, ...]:
    ipsec = tunnel.config.ipsec
    return () if ipsec is None else (*ipsec.certificate_files, *ipsec.ca_files)


def _own_network(description: NodeDescription) -> Iterator[str]:
    settings = dict(hostfiles.rules_of(description).sysctls)
    if description.node.exit is not None:
        settings["net.ipv4.conf.all.src_valid_mark"] = "1"
    if any(len(address.packed) == 16 for address in description.address):
        settings["net.ipv6.conf.all.disable_ipv6"] = "0"
    if settings:
        yield "    sysctls:"
        yield from (f"      {name}: {_scalar(value)}" for name, value in settings.items())
    if description.listen_port:
        yield "    ports:"
        yield f"      - {_scalar(f'{description.listen_port}:{description.listen_port}/udp')}"
    if description.dns:
        yield "    dns:"
        yield from (f"      - {_scalar(address)}" for address in description.dns)
    if description.search:
        yield "    dns_search:"
        yield from (f"      - {_scalar(domain)}" for domain in description.search)


def _capabilities(description: NodeDescription, what: str) -> tuple[str, ...]:
    """NET_ADMIN for devices, addresses and routes; raw sockets for GRE and ESP; the ports of IKE."""
    if what != _TUNNELS:
        return ("NET_ADMIN",)
    ports = ("NET_BIND_SERVICE",) if any(tunnel.config.ipsec for tunnel in description.tunnels) else ()
    return ("NET_ADMIN", "NET_RAW", *ports)


def _secret_name(file: str) -> str:
    return file.replace(".", "-")


def _scalar(text: str) -> str:
    """A string that YAML reads as this string and as nothing else; `$` is Compose's own."""
    return json.dumps(text.replace("$", "$$"))
