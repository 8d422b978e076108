"""Signatures as the Standard Webhooks specification has them: HMAC-SHA256 over id, time and body (symmetric, `v1`)."""

import hmac
from base64 import b64decode, b64encode
from hashlib import sha256

from windlass.errors import Misconfigured

SECRET_PREFIX = "whsec_"  # noqa: S105 what a secret begins with
SECRET_MIN = 24
"""Bytes of a secret, as the specification asks for."""


def keys(text: str) -> list[bytes]:
    """The keys of a setting: base64, with or without `whsec_` in front; several with blanks between, while they change.

    Raises:
        Misconfigured: one is no such secret.
    """
    found = []
    for secret in text.split():
        try:
            key = b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except ValueError:
            key = b""
        if len(key) < SECRET_MIN:
            raise Misconfigured(
                f"WINDLASS_WEBHOOKS_SECRET: a secret is whsec_ and {SECRET_MIN} bytes or more in base64; "
                'make one with: echo "whsec_$(openssl rand -base64 32)"'
            )
        found.append(key)
    return found


def sign(keys: list[bytes], identifier: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature for each key."""
    content = f"{identifier}.{timestamp}.".encode() + body
    return " ".join(f"v1,{b64encode(hmac.digest(key, content, sha256)).decode()}" for key in keys)
