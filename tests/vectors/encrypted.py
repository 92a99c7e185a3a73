"""Of the second implementation (verify.py): payloads encrypted to recipients, docs/protocol.md §1.6, both ways.

HPKE is made of its parts, as RFC 9180 has them, in the one suite that the document names.
"""

import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

import formats
from formats import ciphertext_of, record, sha, u32
from strict import Cbor, Refused, is_json, need, whole

KEY_PAIR = b"intelmq-relay/1 encryption"
PAYLOAD = b"intelmq-relay/1 payload"
RECIPIENT = b"intelmq-relay/1 recipient"
KEM = b"KEM\x00\x20"
HPKE = b"HPKE\x00\x20\x00\x01\x00\x03"
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

# ------------------------------------------------------------------------------------------------------ HPKE, RFC 9180


def extract(suite, salt, label, secret):
    return hmac.digest(salt, b"HPKE-v1" + suite + label + secret, "sha256")


def expand(suite, secret, label, info, length):
    return HKDFExpand(SHA256(), length, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info).derive(secret)


def encryption_pair(seed):
    """(secret, public): the encryption key of the node whose Ed25519 seed this is."""
    secret = expand(KEM, extract(KEM, b"", b"dkp_prk", KEY_PAIR + seed), b"sk", b"", 32)
    return secret, public_of(secret)


def public_of(secret):
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def agreed(secret, public):
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))


def aead_of(shared, enc, recipient, info):
    """The cipher and nonce of base mode, for the first message."""
    secret = expand(KEM, extract(KEM, b"", b"eae_prk", shared), b"shared_secret", enc + recipient, 32)
    context = b"\x00" + extract(HPKE, b"", b"psk_id_hash", b"") + extract(HPKE, b"", b"info_hash", info)
    secret = extract(HPKE, secret, b"secret", b"")
    return ChaCha20Poly1305(expand(HPKE, secret, b"key", context, 32)), expand(HPKE, secret, b"base_nonce", context, 12)


def seal_base(recipient, info, plain, ephemeral):
    enc = public_of(ephemeral)
    aead, nonce = aead_of(agreed(ephemeral, recipient), enc, recipient, info)
    return enc + aead.encrypt(nonce, plain, b"")


def open_base(secret, info, sealed):
    """The plain text; None if it was not sealed to this key, with this info."""
    try:
        aead, nonce = aead_of(agreed(secret, sealed[:32]), sealed[:32], public_of(secret), info)
        return aead.decrypt(nonce, sealed[32:], b"")
    except (InvalidTag, ValueError):  # ValueError: of small order
        return None


# ------------------------------------------------------------------------------------------------------------- a payload

INNER = {key: formats.HEADER[key] for key in ("org", "instance", "tags", "links", "ext")}
INNER |= {"fields": (lambda cbor: cbor.list(lambda cbor: cbor.tuple(Cbor.text, Cbor.text)), True)}


def as_text(public):
    """An encryption key as people see it."""
    data = b"\x2d\xf9\xc0" + public
    number, digits = int.from_bytes(data + sha(data)[:4], "big"), ""
    while number:
        number, digit = divmod(number, 58)
        digits = BASE58[digit] + digits
    return digits


def padded(length):
    """The size for so many bytes."""
    if length <= 1024:
        return 1024
    step = 1 << (length - 1).bit_length() - 3
    return -(-length // step) * step


def bound(header):
    return header["key"] + header["id"]


def encrypt(header, inner, recipients, content_key, ephemerals):
    """`keys`, and the value of the field. What is drawn by chance elsewhere is given here."""
    keys = [
        seal_base(public, RECIPIENT + bound(header), content_key, ephemeral)
        for public, ephemeral in zip(recipients, ephemerals)
    ]
    return keys, sealed_payload(header, u32(len(inner)) + inner, content_key)


def sealed_payload(header, plain, content_key, size=None):
    plain = plain.ljust(padded(len(plain)) if size is None else size, b"\x00")
    sealed = ChaCha20Poly1305(content_key).encrypt(bytes(12), plain, PAYLOAD + bound(header))
    return f'"{formats.base64.b64encode(sealed).decode()}"'


def inner_of(plain):
    need(len(plain) >= 4, "the payload is damaged: it has no length")
    end = 4 + int.from_bytes(plain[:4], "big")
    need(end <= len(plain), "the payload is damaged: its length is beyond its end")
    need(len(plain) == padded(end), "the payload is damaged: it has another size")
    need(not any(plain[end:]), "the payload is damaged: its padding is not zero")
    return plain[4:end]


def open_encrypted(found, node, seed):
    """What formats.open_envelope has found, as the recipient of this name and seed reads it; or Refused."""
    header = found["header"]
    need("keys" in header, "it is not encrypted")
    need(node in header["to"], f"it is encrypted to {' '.join(header['to'])}")
    need(not found["hidden"], "its payload is hidden")
    secret, _ = encryption_pair(seed)
    content_key = open_base(secret, RECIPIENT + bound(header), header["keys"][header["to"].index(node)])
    need(content_key, f"it is encrypted to {node}, but not to a key that it has")
    try:
        ciphertext = ciphertext_of(found["shown"][0][1])
        plain = ChaCha20Poly1305(content_key).decrypt(bytes(12), ciphertext, PAYLOAD + bound(header))
    except (InvalidTag, ValueError):
        raise Refused("the payload is damaged") from None
    inner = whole(inner_of(plain), "not the CBOR of a payload", lambda cbor: record(cbor, cbor.map(), INNER))
    fields, links = inner.pop("fields"), inner.pop("links", {})
    need("withdraws" not in links, "what is withdrawn stands in the clear")
    need(len(fields) <= 4096, "limits.fields: more than 4,096")
    need(all(is_json(value) for _, value in fields), "a value is not JSON")
    need(len({key for key, _ in fields}) == len(fields), "two fields have the same key")
    header = header | inner | {"links": links | header.get("links", {}), "n": len(fields)}
    return found | {"header": header, "shown": fields, "opened": True}
