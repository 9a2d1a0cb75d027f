"""Passwords in addresses: never printed, never written down."""

from __future__ import annotations

import re

HIDDEN = "***"
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^:/?#\s]*):.*@")
_QUERY = re.compile(r"([?&](?:password|passfile|sslpassword|sslkey)=)[^&\s]*")
_known: set[str] = set()


def hide(secret: str) -> None:
    """From now on `redact` removes this text wherever it stands."""
    if secret:
        _known.add(secret)


def redact(text: str) -> str:
    """The text without the passwords of addresses in it, and without those that are known.

    >>> redact("postgresql+psycopg://me:secret@host/studies")
    'postgresql+psycopg://me:***@host/studies'
    """
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _USERINFO.sub(rf"\1:{HIDDEN}@", text)
    return _QUERY.sub(rf"\1{HIDDEN}", text)
