"""Of the second implementation (verify.py): where docs/protocol.md is stricter than Python's libraries. CBOR, JSON, keys."""

import json
import re
import unicodedata

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey


class Refused(Exception):
    """What it was given is not as the document says; the text says why. Anything else that is raised is a fault here."""


def need(condition, why):
    if not condition:
        raise Refused(why)


# ---------------------------------------------------------------------------------------------------------------- CBOR

UINT, BYTES, TEXT, ARRAY, MAP, TAG = 0, 2, 3, 4, 5, 6


class Cbor:
    """Reads the item that it is asked for and refuses any other, and whatever is not in the one form.

    cbor2 would read more than the protocol has (tags, lengths of any form, duplicate keys), so it only writes.
    """

    def __init__(self, data, what):
        self.data, self.at, self.what = data, 0, what

    def need(self, condition, why):
        need(condition, f"{self.what}: {why}")

    def take(self, length):
        self.need(self.at + length <= len(self.data), "it ends too early")
        self.at += length
        return self.data[self.at - length : self.at]

    def head(self):
        """The major type of the next item, and its number."""
        major, low = divmod(self.take(1)[0], 32)
        if low < 24:
            return major, low
        self.need(low < 28, "an indefinite length is not in the one form")
        number = int.from_bytes(self.take(1 << (low - 24)), "big")
        self.need(number >= (24 if low == 24 else 1 << (4 << (low - 24))), "a longer number than in the one form")
        return major, number

    def number_of(self, major):
        found, number = self.head()
        self.need(found == major, f"type {major} is expected, and not {found}")
        return number

    def uint(self, most=2**64 - 1):
        number = self.number_of(UINT)
        self.need(number <= most, "a number is too large")
        return number

    def bytes(self, length=None):
        found = self.take(self.number_of(BYTES))
        self.need(length in (None, len(found)), f"{length} bytes are expected, and not {len(found)}")
        return found

    def text(self):
        try:
            return self.take(self.number_of(TEXT)).decode()
        except UnicodeDecodeError:
            raise Refused(f"{self.what}: a text is not UTF-8") from None

    def bool(self):
        byte = self.take(1)[0]
        self.need(byte in (0xF4, 0xF5), "a boolean is expected")
        return byte == 0xF5

    def next_is(self, major):
        return self.at < len(self.data) and self.data[self.at] >> 5 == major

    def null(self):
        """Whether null is next; it is then behind us."""
        found = self.data[self.at : self.at + 1] == b"\xf6"
        self.at += found
        return found

    def list(self, read, most=None):
        count = self.number_of(ARRAY)
        self.need(most is None or count <= most, "too many entries")
        return [read(self) for _ in range(count)]

    def tuple(self, *readers):
        """An array of so many, each read in its way."""
        self.need(self.number_of(ARRAY) == len(readers), f"an array of {len(readers)} is expected")
        return [read(self) for read in readers]

    def skip(self):
        """Passes one item of any kind, without recursion: what comes from outside may be nested as deep as it likes."""
        still = 1
        while still:
            major, number = self.head()
            self.take(number if major in (BYTES, TEXT) else 0)
            still += {ARRAY: number, MAP: 2 * number, TAG: 1}.get(major, 0) - 1

    def map(self, read_key=text):
        """What stands under each key, still unread: so it is read by its key, and the version can come first."""
        found = {}
        for _ in range(self.number_of(MAP)):
            key, start = read_key(self), self.at
            self.need(key not in found, f"duplicate field {key!r}")
            self.skip()
            found[key] = self.data[start : self.at]
        return found

    def record(self, table):
        return record(self, self.map(), table)

    def end(self):
        self.need(self.at == len(self.data), "there are bytes behind it")


def whole(data, what, read):
    """Reads one item that is all of the bytes."""
    cbor = Cbor(data, what)
    found = read(cbor)
    cbor.end()
    return found


def record(cbor, found, table):
    """The map that a table describes: for each key how to read it, and whether it must be there; no other, and in order."""
    for key in found:
        cbor.need(key in table, f"unknown field {key!r}")
    for key, (_, required) in table.items():
        cbor.need(key in found or not required, f"missing field {key!r}")
    cbor.need(list(found) == [key for key in table if key in found], "another order of keys than in the one form")
    return {key: whole(data, cbor.what, table[key][0]) for key, data in found.items()}


# ------------------------------------------------------------------------------------------------------- small things


def uint(cbor):
    return cbor.uint()


def octets(length=None):
    return lambda cbor: cbor.bytes(length)


def one_of(*words):
    def read(cbor):
        word = cbor.text()
        cbor.need(word in words, f"unknown variant {word!r}")
        return word

    return read


def text(least, most):
    def read(cbor):
        found = cbor.text()
        size = len(found.encode())
        need(least <= size <= most, f"a text of {size} bytes is too long or too short")
        need(not any(unicodedata.category(c) == "Cc" for c in found), "a text has control characters")
        return found

    return read


def name(cbor):
    found = cbor.text()
    cbor.need(re.fullmatch("[a-z0-9-]{1,63}", found), f"{found!r} is no node name")
    return found


def is_json(source):
    """One complete JSON value as Python reads it, at most 128 deep."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", source, flags=re.S)  # brackets in strings do not nest
    depth = 0
    for char in bare:
        depth += (char in "[{") - (char in "]}")
        if depth > 128:
            return False
    try:
        json.loads(source, parse_int=str)  # `str`, since Python will not make numbers of very many digits
        return True
    except ValueError:
        return False


# --------------------------------------------------------------------------------------------------------------- keys

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SMALL = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")  # a point of order 8
Y8 = int.from_bytes(SMALL, "little")
SMALL_ORDER = {0, 1, P - 1, Y8, P - Y8}  # the y of all eight points of small order


def is_point(encoded):
    """Canonical, and on the curve. (x is 0 only where y is 1 or -1, with one sign.)"""
    y, sign = int.from_bytes(encoded, "little") % 2**255, encoded[31] >> 7
    if y >= P:
        return False
    if y in (1, P - 1):
        return sign == 0
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    return pow(square, (P - 1) // 2, P) == 1


def is_small(encoded):
    return int.from_bytes(encoded, "little") % 2**255 in SMALL_ORDER


def is_key(encoded):
    """What a key must be, and the R of a signature."""
    return is_point(encoded) and not is_small(encoded)


def is_x25519(encoded):
    """Below 2^255 - 19, and not of small order: with such a key every secret that is agreed on would be 0."""
    if int.from_bytes(encoded, "little") >= P:
        return False
    try:
        X25519PrivateKey.from_private_bytes(bytes(31) + b"\x40").exchange(X25519PublicKey.from_public_bytes(encoded))
        return True
    except ValueError:
        return False


def verifies(key, signature, message):
    """RFC 8032 §5.1.7 without the cofactor, with canonical encodings, and neither key nor R of small order."""
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    if not is_key(key) or not is_key(r) or s >= L:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except InvalidSignature:
        return False
