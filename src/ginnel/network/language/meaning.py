"""
From the tables of a file to the model: defaults of the network applied to its nodes, groups taken apart, `[gre]` and `[ipsec]`
put under what each link says of itself.

A `[[link]]` with `@group` is a link with each of its nodes. Of several that name one pair, that which names both nodes goes
before one that names a group; of two that name groups, the later one. Two that name both nodes are left to `check`, which calls
it a mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from ginnel.network import model
from ginnel.network.language import tables, values


def network_of(parsed: tables.NetworkFile) -> model.Network:
    """The model of a file whose form is right."""
    table = parsed.network
    return model.Network(
        name=table.name,
        pool=tuple(table.pool),
        nodes=tuple(_node(name, node, table) for name, node in parsed.node.items()),
        shape=table.shape,
        hubs=table.hub or (),
        kind=table.kind,
        interface=table.interface,
        listen_port=table.listen_port,
        mtu=table.mtu,
        outer=table.outer,
        gre=_gre(parsed.gre),
        ipsec=_ipsec(parsed.ipsec),
        psk=table.psk,
        regions=tuple(model.Region(name, tuple(region.near)) for name, region in parsed.region.items()),
        groups=tuple(_group(name, group) for name, group in parsed.group.items()),
        links=_links(parsed),
        protects=tuple(
            model.Protect(item.edge, item.origin, tuple(item.addresses), item.only_edges, item.uplink or "")
            for item in parsed.protect
        ),
        expects=tuple(_expects(parsed)),
        lab=model.Lab(
            faults=_faults(parsed.lab),
            of_node={name: _faults(faults) for name, faults in parsed.lab.node.items()},
            seed=parsed.lab.seed,
        ),
    )


def _node(name: str, table: tables.NodeTable, network: tables.NetworkTable) -> model.Node:
    mapped = tuple(lan for lan in table.lans if isinstance(lan, model.Mapped))
    return model.Node(
        name=name,
        endpoint=table.endpoint,
        lans=tuple(lan.seen if isinstance(lan, model.Mapped) else lan for lan in table.lans),
        mapped=mapped,
        region=table.region,
        relay=table.relay,
        runs=table.runs,
        exit=table.exit,
        dns=tuple(network.dns if table.dns is None else table.dns),
        search=tuple(network.search if table.search is None else table.search),
        address=tuple(packed for packed, _ in table.address),
        lengths=_lengths(table),
        listen_port=table.listen_port,
        underlay_mtu=table.underlay_mtu,
        interface=table.interface,
        mtu=table.mtu,
        keepalive_s=network.keepalive if table.keepalive is None else table.keepalive,
        table=table.table,
        fwmark=table.fwmark,
        hooks=tuple(_hooks(table.hooks)),
    )


def _lengths(table: tables.NodeTable) -> tuple[int, ...]:
    """None where none is written; else one for each address, that of the address alone where none is written."""
    if all(length is None for _, length in table.address):
        return ()
    return tuple(len(packed) * 8 if length is None else length for packed, length in table.address)


def _hooks(table: tables.HooksTable) -> Iterator[tuple[str, str]]:
    for word, commands in (
        ("PreUp", table.pre_up),
        ("PostUp", table.post_up),
        ("PreDown", table.pre_down),
        ("PostDown", table.post_down),
    ):
        for command in commands:
            yield word, command


def _group(name: str, table: tables.GroupTable) -> model.Group:
    return model.Group(name, tuple(dict.fromkeys(table.nodes)), table.shape, table.hub or (), table.kind)


def _members(parsed: tables.NetworkFile, name: str) -> Sequence[str]:
    return tuple(dict.fromkeys(parsed.group[name[1:]].nodes)) if name.startswith("@") else (name,)


# ---------------------------------------------------------------- links


def _links(parsed: tables.NetworkFile) -> tuple[model.Link, ...]:
    by_name: list[model.Link] = []
    of_groups: dict[frozenset[str], model.Link] = {}
    for row, table in enumerate(parsed.link):
        left, right = table.between
        link = _link(row, table, parsed)
        if not left.startswith("@") and not right.startswith("@"):
            by_name.append(_with_ends(link, table))
            continue
        here: dict[frozenset[str], model.Link] = {}
        for one in _members(parsed, left):
            for other in _members(parsed, right):
                if one != other:
                    here.setdefault(frozenset((one, other)), _with_ends(replace(link, between=(one, other)), table))
        of_groups.update(here)
    for link in by_name:
        of_groups.pop(frozenset(link.between), None)
    return tuple(sorted([*by_name, *of_groups.values()], key=lambda link: link.row))


def _link(row: int, link: tables.LinkTable, parsed: tables.NetworkFile) -> model.Link:
    """What a `[[link]]` says of itself, whoever its ends are."""
    between = (link.between[0], link.between[1])
    if (kind := link.kind or parsed.network.kind) not in model.POINT_TO_POINT:
        return model.Link(between, kind, psk=link.psk, row=row)
    said = {name: getattr(link, name) for name in link.model_fields_set & set(tables.GreTable.model_fields)}
    ipsec = None
    if kind in model.PROTECTED:
        own = {name: getattr(link.ipsec, name) for name in link.ipsec.model_fields_set} if link.ipsec is not None else {}
        ipsec = _ipsec(parsed.ipsec.model_copy(update=own))
    gre_options = _gre(parsed.gre.model_copy(update=said))
    return model.Link(between, kind, gre_options, ipsec, tuple(link.subnet), row=row)


def _with_ends(link: model.Link, table: tables.LinkTable) -> model.Link:
    if not table.ends:
        return link
    left, right = link.between
    return replace(link, ends=(_end(table.ends.get(left)), _end(table.ends.get(right))))


def _end(table: tables.EndTable | None) -> model.LinkEnd:
    if table is None:
        return model.LinkEnd()
    allowed = tuple(table.allowed_ips) if table.allowed_ips is not None else None
    return model.LinkEnd(allowed, table.endpoint, table.keepalive, table.device)


def _ipsec(table: tables.IpsecTable) -> model.Ipsec:
    return model.Ipsec(
        mode=table.mode,
        auth=table.auth,
        ike=tuple(table.ike),
        esp=tuple(table.esp),
        encapsulation=table.encapsulation,
        ike_rekey_s=table.ike_rekey,
        rekey_s=table.rekey,
        dpd_s=table.dpd,
    )


def _gre(table: tables.GreTable) -> model.Gre:
    ttl = table.ttl
    if "ttl" not in table.model_fields_set and not table.pmtudisc:
        ttl = None  # a fixed one needs path MTU discovery
    udp = None if table.encapsulation == "auto" else table.encapsulation == "udp"
    keepalive: tuple[int, int | None] | Literal["auto"] | None = "auto"
    if table.keepalive is not None:
        keepalive = table.keepalive if table.keepalive[0] else None
    return model.Gre(
        key=table.key,
        csum=table.csum,
        seq=table.seq,
        ttl=ttl or 0,
        tos=table.tos,
        pmtudisc=table.pmtudisc,
        ignore_df=table.ignore_df,
        udp=udp,
        keepalive=keepalive,
        mtu=table.mtu,
        routes=table.routes,
    )


# ---------------------------------------------------------------- expectations and the lab


def _expects(parsed: tables.NetworkFile) -> Iterator[model.Expect]:
    for row, table in enumerate(parsed.expect):
        group = table.to.node is not None and table.to.node.startswith("@")
        targets = [_target(name, table.to.port) for name in _members(parsed, table.to.node or "")] if group else [table.to]
        for source in _members(parsed, table.source):
            for target in targets:
                if not (group and target.node == source):  # a member of both groups reaches itself
                    yield model.Expect(source, target, table.reaches, row)


def _target(name: str, port: int) -> model.Target:
    return model.Target(f"{name}:{port}" if port else name, name, b"", port)


def _faults(table: tables.FaultsTable) -> model.Faults:
    blocked = [number for item in table.block for number in (values.BLOCKS.get(item, ()) if isinstance(item, str) else (item,))]
    return model.Faults(
        loss=table.loss,
        delay_ms=table.delay,
        jitter_ms=table.jitter,
        reorder=table.reorder,
        duplicate=table.duplicate,
        blocked_protocols=tuple(dict.fromkeys([*blocked, *table.blocked_protocols])),
        blocked_udp_ports=tuple(table.blocked_udp_ports),
        blocked_too_big=values.TOO_BIG in table.block,
        mtu=table.mtu or 0,
    )
