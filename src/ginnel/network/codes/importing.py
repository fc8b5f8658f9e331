"""Chapter 08: what could not be taken in of configurations that others wrote, and what had to be guessed."""

from __future__ import annotations

from ginnel.network.codes.code import Code

CODES: dict[str, Code] = {
    "G0801": Code(
        "more-findings",
        "note",
        "A file has more findings than are told.",
        "A file of another kind that is taken for a configuration.",
        "Mend the ones that are told, and look again.",
    ),
    "G0802": Code(
        "line-not-understood",
        "warning",
        "A line, section or key that the format does not know, or that has no counterpart here, is left out.",
        "`Colour = blue` in `[Peer]`.",
        "Look whether it matters; a misspelled key was never in force where it came from, either.",
    ),
    "G0803": Code(
        "value-not-understood",
        "error",
        "A value cannot be read, so what it says is left out.",
        "`AllowedIPs = 10.0.0.300/32`.",
        "Mend the file, and import it again.",
    ),
    "G0804": Code(
        "commented-out",
        "note",
        "Something is commented out: a peer that is switched off, a setting that was tried. It is left out.",
        "`#[Peer]` and the lines below it.",
        "Nothing; or take the comment mark away, and import again.",
    ),
    "G0805": Code(
        "hook-with-secret",
        "warning",
        "A hook seems to hold a secret. A network file lies in git, so the hook is left out, and what it did will not be done.",
        "`PostUp = curl -H 'Authorization: …' https://dns.example.org/…`.",
        "Let the command read the secret from a file that root alone can read, and import again.",
    ),
    "G0806": Code(
        "said-twice",
        "warning",
        "Two files configure the same device of a host, and not the same way; the first is taken.",
        "`lyon/wg0.conf`, and a `wg show dump` of lyon from which a peer is missing.",
        "Leave one of them out: what is to be, or what runs.",
    ),
    "G0807": Code(
        "own-key-unknown",
        "note",
        "A configuration does not hold its host's private key, so the public key has to be told from what the others say.",
        "`PostUp = wg set %i private-key /etc/wireguard/%i.key`.",
        "Nothing where the host is found among the others' peers; else pin its key: `ginnel keys new NODE --public KEY`.",
    ),
    "G0808": Code(
        "too-much",
        "error",
        "A file, or all of them together, are larger than any configuration has a reason to be, and are not read.",
        "A directory that holds a packet capture as well.",
        "Name the configuration files themselves.",
    ),
    "G0809": Code(
        "setting-not-kept",
        "note",
        "A setting is understood and left out, because a network file says it otherwise or not at all.",
        "`SaveConfig = true`: what runs would be written over what the network file says.",
        "Nothing.",
    ),
    "G0810": Code(
        "renamed",
        "note",
        "A host's name is not one that a network file can have (lower-case letters, digits and '-'), so it is changed.",
        "`# Name = Bob's phone` becomes `bob-s-phone`.",
        "`ginnel node rename` gives it another.",
    ),
    "G0811": Code(
        "endpoints-differ",
        "warning",
        "Hosts find the same host by different endpoints. The one that most use becomes the node's, the others stay theirs.",
        "`Endpoint = vpn.example.org:51820` here, `Endpoint = 203.0.113.10:51820` there.",
        "Nothing, where both lead there; else put the right one into the network file.",
    ),
    "G0812": Code(
        "peer-without-file",
        "note",
        'A peer has no file among those that were given: it becomes a node that others look after (`runs = "other"`).',
        "The phones of a hub, when only the hub's file is at hand.",
        "Nothing; or import its file, too.",
    ),
    "G0813": Code(
        "endpoint-unknown",
        "warning",
        "Two hosts are peers, and nobody says where either of them is reached. The network file needs an endpoint for one "
        "of them, so a name is written that leads nowhere (`.invalid`).",
        "Only the hub's file is given, and its own address stands in the files of its peers.",
        "Write the node's address for the name that ends in `.invalid`.",
    ),
    "G0814": Code(
        "host-bits",
        "note",
        "A prefix has bits beyond its length; what WireGuard makes of it is taken.",
        "`AllowedIPs = 10.0.0.7/24` is 10.0.0.0/24.",
        "Look whether 10.0.0.7/32 was meant: as it is, this peer has all of the /24.",
    ),
    "G0815": Code(
        "not-the-same",
        "warning",
        "The network file does not say quite what was imported, because a network file cannot. What differs is named.",
        "A host has a peer that does not have it in turn: a link of a network file has two ends.",
        "Look at `ginnel plan --against` the imported files before anything is rolled out.",
    ),
    "G0816": Code(
        "tunnel-not-taken",
        "warning",
        "A tunnel is of a kind that a network file does not describe, or its other end is not among what was imported.",
        "A GRETAP device; a GRE tunnel to a provider.",
        "Keep it in a node file of its own on that host.",
    ),
    "G0817": Code(
        "format-unknown",
        "warning",
        "A file is none of the formats that can be read, so nothing of it is taken in.",
        "A README among the files, or a configuration that is encrypted.",
        "Leave the file out. Read are wg-quick, `wg showconf`, `wg show dump`, networkd, NetworkManager, swanctl, `ip -j`.",
    ),
}
