"""Chapter 06: secrets and keys."""

from __future__ import annotations

from ginnel.network.codes.code import Code

CODES: dict[str, Code] = {
    "G0601": Code(
        "key-shared",
        "error",
        "Two hosts have the same private key: to their peers they are one, whose endpoint jumps to whoever spoke last; "
        "sessions of the one "
        "break those of the other.",
        "A high-availability pair with one wg0.conf; a virtual machine that was cloned.",
        "A key of its own for each; two peers with one prefix each, and routes or a virtual address decide.",
    ),
    "G0602": Code(
        "secret-readable",
        "error",
        "A file with a secret can be read by others on the host.",
        "wg0.conf with mode 0644.",
        "`chmod 600` it, and make new keys if others were on the host.",
    ),
    "G0603": Code(
        "psk-shared",
        "note",
        "Several pairs have the same preshared key: each of them can read along what it protects of the others.",
        "One `wg genpsk` for the whole network.",
        "A key for each pair.",
    ),
}
