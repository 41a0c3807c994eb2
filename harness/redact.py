"""Removes an API key from what a server sent back, in whatever spelling it echoes it."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

_SHORT, _TINY = 8, 4  # characters
# HTTP may cut a body, and so a key in it, into chunks at any place.
_FRAME = re.compile(rb"\r\n[0-9A-Fa-f]{1,16}(?:;[^\r\n]*)?\r\n")
_JOINT = rb"(?:" + _FRAME.pattern + rb")?"
_WORD = rb"[0-9A-Za-z_-]"
_SLASHES = rb"\\{1,8}"  # escaped once or more; without a limit a body of backslashes would take hours
NOTHING: re.Pattern[bytes] = re.compile(rb"(?!)")


class Secret:
    """An API key, and how it is found: in any case, escaped as in JSON, Python or HTML, URL-encoded, or cut off after
    half of it. A key of less than 8 characters may be a word (`EMPTY`), so it is only found as a word of its own in its
    own case; of less than 4 only after `Bearer`, or it would be found in every text."""

    def __init__(self, key: str | None) -> None:
        self.pattern = NOTHING
        if key:
            forms = [_forms(character) for character in key]
            whole = _JOINT.join(forms)
            if len(key) >= _SHORT:
                half = _JOINT.join(forms[: max(_SHORT, len(key) // 2)])
                either = rb"(?:" + whole + rb"|" + half + rb"(?:" + _WORD + rb"|[.~+/=])*)"
                # Looking at one byte first is ten times faster where there is no key, which is nearly everywhere.
                self.pattern = re.compile(_begins(key[0]) + either, re.IGNORECASE)
            else:
                before = rb"(?<=[Bb]earer )" if len(key) < _TINY else rb"(?<!" + _WORD + rb")"
                self.pattern = re.compile(before + whole + rb"(?!" + _WORD + rb")")

    def hide(self, text: str) -> str:
        """The text with *** in place of the key."""
        if self.pattern is NOTHING:
            return text
        found = text.encode(errors="surrogatepass")
        return self.pattern.sub(b"***", found).decode(errors="surrogatepass")

    def blank(self, data: bytes) -> bytes:
        """The bytes with as many asterisks in place of the key, so that every length that they state stays right."""
        return data if self.pattern is NOTHING else self.pattern.sub(_asterisks, data)


NO_SECRET = Secret(None)


def _asterisks(found: re.Match[bytes]) -> bytes:
    """Asterisks for all but the chunk framing within."""
    parts, at = [], 0
    for frame in _FRAME.finditer(found[0]):
        parts += [b"*" * (frame.start() - at), frame[0]]
        at = frame.end()
    return b"".join([*parts, b"*" * (len(found[0]) - at)])


def _begins(character: str) -> bytes:
    """Looks ahead for the first byte of any of the character's forms."""
    first = {*character.lower().encode()[:1], *character.upper().encode()[:1], *character.encode()[:1], *b"\\%&"}
    return rb"(?=[" + b"".join(b"\\x%02x" % byte for byte in sorted(first)) + rb"])"


def _forms(character: str) -> bytes:
    """A pattern of every way in which a server may write this character of a key."""
    raw = character.encode(errors="surrogatepass")
    encoded = "".join(f"%{byte:02x}" for byte in raw)
    code = ord(character)
    escaped = json.dumps(character)[1:-1] if code > 126 else f"\\u{code:04x}"
    spelled = {quote(character, safe="", errors="replace"), encoded, f"&#{code};", f"&#x{code:x};"}
    forms = [re.escape(raw), *(re.escape(one.encode()) for one in sorted(spelled) if one.encode() != raw)]
    # Escaped once or more: text within text has two backslashes.
    forms.append(re.escape(escaped.encode()).replace(rb"\\", _SLASHES))
    forms.append(_SLASHES + _SLASHES.join(b"x%02x" % byte for byte in raw))
    if not character.isalnum():
        forms.append(_SLASHES + re.escape(raw))
    return b"(?:" + b"|".join(forms) + b")"
