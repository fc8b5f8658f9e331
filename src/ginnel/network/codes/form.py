"""Chapter 09: the form of a file. Words, types and names, before anything is asked about sense."""

from __future__ import annotations

from ginnel.network.codes.code import Code

CODES: dict[str, Code] = {
    "G0901": Code("not-toml", "error", "The text is not TOML.", "A string without its closing quote.", "Mend the line."),
    "G0902": Code(
        "unknown-key",
        "error",
        "A table has a key that it does not know. Nothing is ignored silently.",
        '`endpiont = "203.0.113.10"`',
        "The nearest known key is named.",
    ),
    "G0903": Code(
        "missing-key", "error", "A table lacks a key that it needs.", "[network] without `pool`.", "Add it; a sample is shown."
    ),
    "G0904": Code(
        "bad-value",
        "error",
        "A value is not of the form that its key takes.",
        '`lans = ["10.20.0.1/24"]` (host bits are set).',
        "What was expected is named.",
    ),
    "G0905": Code(
        "secret-in-file",
        "error",
        "The network file is for git, and something in it looks like a secret. Its line is not shown.",
        '`private_key = "…"`',
        "Take it out, and take it for known to everybody who has the file. Keys are made by `ginnel keys new`.",
    ),
    "G0906": Code(
        "not-a-network-file",
        "error",
        "The file is something else: a node file, for instance, or too large.",
        "`ginnel check gre1.toml`, a file with [tunnel.NAME].",
        "Name the network file.",
    ),
    "G0907": Code(
        "unknown-name",
        "error",
        "A name is that of no node, group or region.",
        '`exit = "pairs"`',
        "The nearest known name is named.",
    ),
    "G0908": Code(
        "unknown-kind", "error", "There are no links of this kind.", '`kind = "openvpn"`', "One of those that are named."
    ),
    "G0909": Code("link-with-itself", "error", "A node is linked with itself.", 'between = ["paris", "paris"]', "Name two."),
    "G0910": Code(
        "link-twice",
        "error",
        "Two nodes are linked twice.",
        "Two [[link]]s between the same two nodes.",
        "Say all of it in one of them.",
    ),
    "G0911": Code(
        "named-twice",
        "error",
        "Something is named twice where once is meant: a node in two files, a node twice in a group.",
        "[node.paris] in two files of a directory.",
        "Take one of them out.",
    ),
    "G0912": Code(
        "not-of-this-kind",
        "error",
        "An option of other kinds of links.",
        '`key = 7` at a link kind = "wireguard".',
        "Take it out, or change the kind.",
    ),
    "G0913": Code(
        "lock-broken",
        "error",
        "The lock file is not what ginnel writes.",
        "A merge that left conflict marks, or two nodes with one address.",
        "Restore it from git; or remove the entries in question, and they are allocated anew.",
    ),
    "G0914": Code(
        "not-readable",
        "error",
        "A file cannot be read, or is not text.",
        "A path that does not exist.",
        "Name another.",
    ),
}
