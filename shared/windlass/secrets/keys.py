"""Keys, and what they seal: AES-256-GCM, bound to a place, so that nothing sealed for one can be passed off as another.

The *master key* is the coordinator's alone. From it follow *transport keys*, one for each other service that handles secrets.
Each job has a key of its own, made by chance and kept only wrapped by the master key: with that row, what it sealed is gone.

A sealed text is `<key id>.<base64url of nonce and ciphertext>`. Its nonce is a keyed hash of text and place, so the same text in
the same place is sealed alike: deciding twice gives the same bytes, and no nonce ever serves two texts.
"""

import base64
import hmac
import re
import secrets as chance
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from windlass.errors import Invalid, Misconfigured

KEY_BYTES = 32
ID_BYTES = 4
NONCE_BYTES = 12
SERVICES = ("gateway", "worker", "webhooks")
"""Which have a transport key."""
_HEX = re.compile(r"[0-9A-Fa-f]{64}")


class Unopened(Invalid):
    """What was sealed cannot be opened: with another key, for another place, or it was changed."""

    code = "unopened"
    http = 500


class Key:
    """One key of 32 bytes. `id` tells keys apart and gives nothing away."""

    __slots__ = ("_cipher", "_nonces", "_raw", "id")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        material = _derive(raw, "use", 2 * KEY_BYTES + ID_BYTES)
        self._raw = raw
        self._cipher = AESGCM(material[:KEY_BYTES])
        self._nonces = material[KEY_BYTES : 2 * KEY_BYTES]
        self.id = material[2 * KEY_BYTES :].hex()

    def __repr__(self) -> str:
        return f"Key({self.id})"

    def __reduce__(self) -> str:
        raise TypeError("a key is not written anywhere")

    def seal(self, data: bytes, *place: str) -> str:
        """Seal bytes for the place that `place` names."""
        bound = _bound(place)
        nonce = hmac.digest(self._nonces, bound + data, "sha256")[:NONCE_BYTES]
        sealed = nonce + self._cipher.encrypt(nonce, data, bound)
        return f"{self.id}.{base64.urlsafe_b64encode(sealed).decode()}"

    def open(self, sealed: str, *place: str) -> bytes:
        """What was sealed for that place.

        Raises:
            Unopened: this key cannot.
        """
        name, _, text = sealed.partition(".")
        try:
            data = base64.b64decode(text.encode(), altchars=b"-_", validate=True)
            if name != self.id:
                raise Unopened(_foreign(name, [self.id]))
            return self._cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], _bound(place))
        except (InvalidTag, ValueError) as error:  # a nonce that is too short is a ValueError, as is bad base64
            raise Unopened(f"what was sealed for {' '.join(place)} was changed, or is of another place") from error

    def mac(self, data: bytes) -> str:
        """A keyed hash: equal for equal data, and nobody without the key can try what the data may be."""
        return hmac.digest(self._nonces, b"\0" + data, "sha256")[:16].hex()

    def derived(self, name: str) -> "Key":
        """The key of that name which follows from this one."""
        return Key(_derive(self._raw, name, KEY_BYTES))

    def wrap(self, other: "Key", *place: str) -> str:
        """Another key, sealed by this one."""
        return self.seal(other._raw, *place)

    def exported(self) -> str:
        """The key as settings have it."""
        return base64.b64encode(self._raw).decode()


class Keys:
    """Some keys of one kind: the first seals, all open, so that a key can be replaced while the old one is still about."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = {key.id: key for key in keys}

    def __repr__(self) -> str:
        return f"Keys({', '.join(self._keys)})"

    @property
    def ids(self) -> list[str]:
        """Of all of them, the first's first."""
        return list(self._keys)

    @property
    def first(self) -> Key:
        """The one that seals."""
        return next(iter(self._keys.values()))

    def seal(self, data: bytes, *place: str) -> str:
        """See `Key.seal`."""
        return self.first.seal(data, *place)

    def open(self, sealed: str, *place: str) -> bytes:
        """See `Key.open`."""
        return self._of(sealed).open(sealed, *place)

    def unwrap(self, sealed: str, *place: str) -> Key:
        """The key that one of these wrapped.

        Raises:
            Unopened: none of these can.
        """
        return Key(self.open(sealed, *place))

    def derived(self, name: str) -> "Keys":
        """See `Key.derived`."""
        return Keys([key.derived(name) for key in self._keys.values()])

    def exported(self, service: str) -> str:
        """These keys as the setting of a service; empty for a master key, which is a coordinator's."""
        prefix = f"{service}:" if service in SERVICES else ""
        return ",".join(prefix + key.exported() for key in self._keys.values())

    def _of(self, sealed: str) -> Key:
        name = sealed.partition(".")[0]
        key = self._keys.get(name)
        if key is None:
            raise Unopened(_foreign(name, self.ids))
        return key


def new() -> Key:
    """A fresh key."""
    return Key(chance.token_bytes(KEY_BYTES))


def transport(master: Keys, service: str) -> Keys:
    """The keys of a service."""
    return master.derived(f"transport {service}")


def read(text: str, service: str) -> Keys | None:
    """The keys in a setting, of which the first seals; None for an empty one.

    Each has 32 bytes, in base64 or hexadecimal. Those of a service begin with its name and a colon, which tells them from the
    master key, and from each other.

    Raises:
        Misconfigured: it is not that, in words that do not repeat it.
    """
    found = []
    for one in filter(None, (part.strip() for part in text.split(","))):
        owner, colon, key = one.rpartition(":")
        owner = owner if colon else "coordinator"
        if owner not in (*SERVICES, "coordinator"):
            raise Misconfigured(f"WINDLASS_SECRET_KEY is no key; make one with: windlass secret-key {service}")
        if owner != service:
            raise Misconfigured(
                f"WINDLASS_SECRET_KEY holds a key of the {owner}, and this is the {service}: "
                f"give it what this prints, told the coordinator's: windlass secret-key {service}"
            )
        found.append(Key(_bytes(key)))
    return Keys(found) if found else None


def setting(master: str, service: str) -> str:
    """The setting of a service, from the coordinator's; empty for one that handles no secrets.

    Raises:
        Misconfigured: there is no master key, or it is none.
    """
    found = read(master, "coordinator")
    if found is None:
        raise Misconfigured("WINDLASS_SECRET_KEY is not set: the coordinator's, from which the others follow")
    if service in SERVICES:
        return transport(found, service).exported(service)
    return found.exported(service) if service == "coordinator" else ""


def _bytes(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text) if _HEX.fullmatch(text) else base64.b64decode(text.translate(_STANDARD), validate=True)
    except ValueError:
        raw = b""
    if len(raw) != KEY_BYTES:
        raise Misconfigured(
            f"WINDLASS_SECRET_KEY is not {KEY_BYTES} bytes in base64 or hexadecimal; make one with: windlass secret-key"
        )
    return raw


_STANDARD = str.maketrans("-_", "+/")


def _derive(raw: bytes, name: str, length: int) -> bytes:
    return HKDF(SHA256(), length, None, f"windlass {name}".encode()).derive(raw)


def _bound(place: tuple[str, ...]) -> bytes:
    """A place as bytes, such that no place is the beginning of another."""
    return bytes([len(place)]) + b"".join(len(part).to_bytes(4, "big") + part for part in map(str.encode, place))


def _foreign(name: str, ours: list[str]) -> str:
    name = name if re.fullmatch("[0-9a-f]{8}", name) else "of no known form"
    return f"it was sealed with key {name}, and here are: {', '.join(ours)}; see WINDLASS_SECRET_KEY"
