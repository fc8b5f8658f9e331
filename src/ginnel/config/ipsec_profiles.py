"""
Peers' profiles: what is known to go with other makers' equipment, as defaults of a `[tunnel.NAME.ipsec]`.

`peer = "…"` changes defaults and nothing else: a key that the file gives comes first. Each profile has few proposals, which the
configuration of the other side in docs/howto/ipsec-with-*.md names as well; so what is agreed on is known beforehand, and with it
the MTU. Selectors of IPsec alone are one pair of IPv4, as route-based tunnels of routers have them; ESN is offered only where it
is known to be taken. `tried` is the truth about how far the profile was tested.

Source: the makers' own documents of their commands, named in docs/howto/ipsec-with-*.md; gre-over-IPsec as each does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

_V4: Final = ("0.0.0.0/0",)
_V6: Final = ("::/0",)


@dataclass(frozen=True, slots=True)
class Profile:
    """
    ike, esp: proposals. mode: of GRE and its like. everything: selectors of all addresses in place of the two ends (peers that do
    GRE in tunnel mode over a route-based tunnel). one_family: IPsec alone has selectors of the tunnel's own family only.
    """

    ike: tuple[str, ...] = ()
    esp: tuple[str, ...] = ()
    mode: Literal["transport", "tunnel"] = "transport"
    everything: bool = False
    one_family: bool = True
    tried: bool = False


#: AES-CBC beside AES-GCM for IKE: not every release of these has GCM there.
_IKE: Final = ("aes256-sha256-ecp256-modp2048",)
_ESP: Final = ("aes256gcm16-ecp256",)

PROFILES: Final[Mapping[str, Profile]] = {
    "strongswan": Profile(
        ike=("aes256gcm16-prfsha384-x25519-ecp384", "aes256-sha256-x25519-ecp256-modp2048"),
        esp=("aes256gcm16-aes128gcm16-x25519-ecp256-modp2048-none-esn-noesn", "aes256-aes128-sha256-x25519-ecp256-modp2048-none"),
        one_family=False,
        tried=True,
    ),
    "vyos": Profile(ike=("aes256gcm16-prfsha256-x25519-ecp256", *_IKE), esp=("aes256gcm16-x25519-ecp256",)),
    "cisco-ios": Profile(ike=_IKE, esp=_ESP),
    "mikrotik": Profile(ike=_IKE, esp=(*_ESP, "aes256-sha256-ecp256-modp2048")),
    "fortigate": Profile(ike=_IKE, esp=_ESP),
    "juniper": Profile(ike=_IKE, esp=_ESP, mode="tunnel", everything=True),
}


def defaults(peer: str, kind: str, family: Literal[4, 6]) -> dict[str, Any]:
    """
    What a profile sets, by the names of `IpsecConfig`; empty without a profile.

    Args:
        peer: a name of PROFILES, or "".
        kind: of the tunnel.
        family: of its delivery header.
    """
    profile = PROFILES.get(peer)
    if profile is None:
        return {}
    found: dict[str, Any] = {"ike_proposals": profile.ike, "esp_proposals": profile.esp}
    all_of_it = _V4 if family == 4 else _V6
    if kind == "ipsec":
        if profile.one_family:
            found |= {"local_ts": _V4, "remote_ts": _V4}
    else:
        found["mode"] = profile.mode
        if profile.everything:
            found |= {"local_ts": all_of_it, "remote_ts": all_of_it}
    return found
