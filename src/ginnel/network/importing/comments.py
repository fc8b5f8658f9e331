"""
What people and tools write above a `[Peer]` (or first in it) to say who it is, and peers that are only commented out.

    # Name = lyon, # friendly_name = lyon     said outright (the exporters' convention)
    ### Client phone, # Client: phone (uuid)  installers and web interfaces
    # BEGIN_PEER phone, ### begin phone ###   the same, of others
    # lyon, ## Lyon office                    one short comment directly above, or directly below the header
"""

from __future__ import annotations

import re

from ginnel.network.importing.reading import clean_name

_OUTRIGHT = re.compile(r"[#;\s]*(?:friendly[_-]?)?name\s*[=:]\s*(.+?)\s*$", re.IGNORECASE)
_CLIENT = re.compile(
    r"[#;\s]*(?:client|peer|begin[_ ]?peer|begin)\s*[:=]?\s+(.+?)(?:\s*\([0-9a-f-]{8,}\))?[\s#]*$", re.IGNORECASE
)
_HEADER = re.compile(r"[#;\s]*\[\s*peer\s*\]\s*$", re.IGNORECASE)
_SETTING = re.compile(r"[#;\s]*([A-Za-z]+)\s*=\s*\S")
_SETTINGS = frozenset(
    {
        "privatekey", "listenport", "fwmark", "address", "dns", "mtu", "table", "preup", "postup", "predown", "postdown",
        "publickey", "presharedkey", "allowedips", "endpoint", "persistentkeepalive",
    }
)  # fmt: skip
#: A comment that is a sentence is no name.
_WORDS_MAX, _CHARACTERS_MAX = 4, 40
#: What is longer says no name, and is not looked through for one.
_COMMENT_MAX = 1024


def name_of(comments: list[str]) -> str:
    """The name that comments around a header give, best kind first; "" when none does."""
    comments = [comment for comment in comments if len(comment) <= _COMMENT_MAX]
    for pattern in (_OUTRIGHT, _CLIENT):
        for comment in comments:
            if (found := pattern.match(comment)) and (name := clean_name(found[1])):
                return name
    for comment in reversed(comments):
        text = clean_name(comment.strip("#; \t"))
        plain = text and len(text) <= _CHARACTERS_MAX and len(text.split()) <= _WORDS_MAX and not re.search(r"[=\[\]]", text)
        if plain and any(c.isalnum() for c in text) and not re.match(r"end[_ ]", text, re.IGNORECASE):
            return text
    return ""


def says_a_name(comment: str) -> bool:
    """Whether a comment says a name outright."""
    return len(comment) <= _COMMENT_MAX and _OUTRIGHT.match(comment) is not None


def disables_a_peer(comment: str) -> bool:
    """Whether a comment is the header of a peer that is switched off."""
    return _HEADER.match(comment) is not None


def setting(comment: str) -> str:
    """The key of a setting that is commented out, in lower case; "" when the comment is none."""
    found = _SETTING.match(comment)
    return found[1].lower() if found and found[1].lower() in _SETTINGS else ""
