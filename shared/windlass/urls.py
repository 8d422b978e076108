"""Where webhooks go: http and https URLs, taken apart and checked."""

import re
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from windlass.errors import Invalid

URL_MAX = 2048
_UNWRITTEN = re.compile(r"[\x00-\x20\x7f\ud800-\udfff]")
"""What no URL holds; a blank is written `%20`."""
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"[0-9a-z_]([0-9a-z_.-]*[0-9a-z_.])?|[0-9a-f:.]*:[0-9a-f:.]*")
_KEPT = "%/:?@!$&'()*+,;=~-._[]"


class Url(NamedTuple):
    """A URL in its parts: `host` in lower case and ASCII, without brackets; `target` the path and query as they are sent."""

    scheme: str
    host: str
    port: int
    target: str
    credentials: str = ""
    """`user:password`, if the URL has them."""

    @property
    def authority(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """What counts as one receiver: a short text that stands for host, port and path."""
        return blake2b(f"{self.authority}{self.target.partition('?')[0]}".encode(), digest_size=16).hexdigest()


def parse(text: str) -> Url:
    """Take a URL apart.

    Raises:
        Invalid: it is none that can be called, and why.
    """
    if "{{" in text:
        raise Invalid("it is not a template: write it out, and put what varies into a header")
    if len(text) > URL_MAX:
        raise Invalid(f"it has {len(text)} characters; {URL_MAX} are allowed")
    if _UNWRITTEN.search(text) or _BROKEN_ESCAPE.search(text):
        raise Invalid("it holds a blank, a control character or a % without two digits; write %20 and %25")
    try:
        parts = urlsplit(text)
        port = parts.port
        host = (parts.hostname or "").encode("ascii" if (parts.hostname or "").isascii() else "idna").decode()
    except ValueError as error:
        raise Invalid(f"{error}; write one such as https://example.com/hook") from error
    if parts.scheme not in ("http", "https"):
        raise Invalid("it does not begin with http:// or https://")
    if not _HOST.fullmatch(host) or len(host) > 253 or port == 0:
        raise Invalid("it names no host and port that can be called; write one such as https://example.com/hook")
    target = quote(parts.path or "/", _KEPT) + (f"?{quote(parts.query, _KEPT)}" if parts.query else "")
    login = parts.netloc.rpartition("@")[0]
    return Url(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), target, unquote(login))
