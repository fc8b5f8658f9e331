"""
Name constraints: what an authority may not vouch for, because the one above it said so.

They are heeded for DNS names, email addresses, IP addresses and distinguished names, on every certificate below the one that
has them. A constraint of another kind (URI, ...) cannot be heeded here, so a certificate that has names of that kind is refused
by it: what is not understood does not open a door.

Source: RFC 5280 4.2.1.10.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from cryptography import x509

from ginnel.ikev2 import der
from ginnel.ikev2.certificates import Certificate, extension, folded, folded_email, name_words


def problem(authority: Certificate, below: Certificate) -> str:
    """ "" or a clause: "its authority CN=… may not vouch for moon.example.org"."""
    constraints = extension(authority, x509.NameConstraints)
    if constraints is None:
        return ""
    permitted = list(constraints.permitted_subtrees or ())
    excluded = list(constraints.excluded_subtrees or ())
    kinds = {type(subtree) for subtree in (*permitted, *excluded)}
    unknown = [kind for kind in kinds if kind not in _KNOWN and kind.__name__ in below.names.others]
    if unknown:
        return f"its authority {authority} constrains names of the kind {unknown[0].__name__}, which are not looked into here"
    for kind, name, words in _names(below):
        inside = [subtree for subtree in permitted if isinstance(subtree, kind)]
        if (inside and not any(_within(name, subtree) for subtree in inside)) or any(
            _within(name, subtree) for subtree in excluded if isinstance(subtree, kind)
        ):
            return f"its authority {authority} may not vouch for {words} (name constraints)"
    return ""


_KNOWN = {x509.DNSName, x509.RFC822Name, x509.IPAddress, x509.DirectoryName}

_Kind = type[x509.DNSName] | type[x509.RFC822Name] | type[x509.IPAddress] | type[x509.DirectoryName]


def _names(certificate: Certificate) -> Iterable[tuple[_Kind, str | bytes, str]]:
    """Each name of a certificate: its kind, the name, and how it is said."""
    names = certificate.names
    yield from ((x509.DNSName, name, name) for name in names.dns)
    yield from ((x509.RFC822Name, name, name) for name in names.emails)
    yield from ((x509.IPAddress, packed, str(ipaddress.ip_address(packed))) for packed in names.addresses)
    directories = (*names.directories, *([certificate.subject] if len(certificate.subject) > 2 else []))
    yield from ((x509.DirectoryName, name, name_words(name)) for name in directories)


def _within(name: str | bytes, subtree: x509.GeneralName) -> bool:
    """Whether *name* lies in *subtree*, which is of its kind."""
    match subtree, name:
        case x509.DNSName(), str():
            return _dns_within(name, folded(subtree.value))
        case x509.RFC822Name(), str():
            return _email_within(name, subtree.value)
        case x509.IPAddress(), bytes():
            network = subtree.value
            address = ipaddress.ip_address(name)
            return isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network) and address in network
        case x509.DirectoryName(), bytes():
            return _directory_within(name, subtree.value.public_bytes())
        case _:
            return False


def _dns_within(name: str, base: str) -> bool:
    """Any labels may be added on the left; a leading dot (not in the RFC, but in use) wants at least one."""
    if base.startswith("."):
        return name.endswith(base)
    return base in {"", name} or name.endswith("." + base)


def _email_within(name: str, base: str) -> bool:
    """A mailbox, all of a host, or (with a leading dot) all of the hosts in a domain."""
    if "@" in base:
        return name == folded_email(base)
    domain = name.rpartition("@")[2]
    return domain.endswith(folded(base)) if base.startswith(".") else domain == folded(base)


def _directory_within(name: bytes, base: bytes) -> bool:
    """The base is the beginning of the name."""
    try:
        whole, beginning = der.name_parts(name), der.name_parts(base)
    except ValueError:
        return False
    return whole[: len(beginning)] == beginning
