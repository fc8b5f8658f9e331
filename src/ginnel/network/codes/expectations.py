"""Chapter 07: expectations. What `[[expect]]` says and the model does not bear out."""

from __future__ import annotations

from ginnel.network.codes.code import Code

CODES: dict[str, Code] = {
    "G0701": Code(
        "expect-fails",
        "error",
        "By the model an expectation does not hold; the rule that decides is told with it.",
        '`from = "lyon", to = "10.20.0.5:443", reaches = true`, and nothing carries from lyon to there.',
        "Mend the network, or the expectation. `ginnel path FILE FROM TO` shows every hop.",
    ),
    "G0702": Code(
        "expect-source-unknown",
        "error",
        "An expectation begins at an address that lies in no node's LAN.",
        '`from = "10.99.0.5"`',
        "Name a node, or an address in one of its LANs.",
    ),
    "G0703": Code(
        "expect-target-unknown",
        "error",
        "An expectation is about an address that is in nobody's network.",
        '`to = "10.99.0.5"`',
        "Name a node, or an address in one of their LANs; tunnel addresses are allocated.",
    ),
    "G0704": Code(
        "expect-undecided",
        "error",
        "What an expectation is about is decided by something that the file does not know: a routing daemon.",
        "`routes = false` on the only link between the two.",
        "Test it in the running network.",
    ),
}
