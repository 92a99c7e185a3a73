"""Of the second implementation (verify.py): envelopes, rosters, frames and notices, as docs/protocol.md has them.

What comes to a format later is a row in a table (HEADER, MEMBER, FRAMES …), and a reader of what stands there.
"""

import base64
import datetime
import hashlib
import json
import re
import uuid

from strict import ARRAY, BYTES, MAP, TEXT, Cbor, is_json, is_key, is_x25519, name, need, octets, one_of, record
from strict import text, uint, verifies, whole

SEAL = b"intelmq-relay/1 seal"
ENVELOPE = b"intelmq-relay/1 envelope"
HOP = b"intelmq-relay/1 hop"
HOPS = b"intelmq-relay/1 hops"
CONTENT_ID = b"intelmq-relay/1 content id"
ROSTER = b"intelmq-relay/1 roster"
NOTICE = b"intelmq-relay/1 notice"
MIB = 1 << 20
LAST_DATE = 253_402_207_200_999


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def u32(number):
    return number.to_bytes(4, "big")


# ----------------------------------------------------------------------------------------------------- §1 the envelope

LINE = text(0, 1024)


def some(read):
    """A list that is left out when it is empty."""

    def read_some(cbor):
        found = cbor.list(read, 256)
        cbor.need(found, "an empty list is not written in the one form")
        return found

    return read_some


LINES = some(LINE)
LINKS = {
    "parent": (LINE, False),
    "related": (LINES, False),
    "group": (LINES, False),
    "alternate": (LINES, False),
    "replaces": (octets(16), False),
    "withdraws": (octets(16), False),
}


def tlp(cbor):
    label = cbor.text()
    cbor.need(label in ("CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED"), f"{label!r} is no TLP label")
    return label


def extensions(cbor):
    found = {key: whole(value, cbor.what, Cbor.text) for key, value in cbor.map(LINE).items()}
    cbor.need(0 < len(found) <= 256, "too many entries, or none")
    for key, value in found.items():
        need(re.fullmatch(r"x-.+|[^:]+:.+", key, re.S), f"extension key {key!r} is neither x-… nor prefix:key")
        need(is_json(value), f"extension's value of {key!r} is not JSON")
    keys = [key.encode() for key in found]
    cbor.need(keys == sorted(keys), "another order of extensions than in the one form")
    return found


def relations(cbor):
    found = cbor.record(LINKS)
    cbor.need(found, "no links are not written in the one form")
    return found


def left_out(cbor):
    keys = cbor.list(LINE, 256)
    need(all(key.startswith("feed.") for key in keys), "only feed.* may be left out of a content id")
    return keys


HEADER = {
    "v": (uint, True),
    "id": (octets(16), True),
    "origin": (name, True),
    "key": (octets(32), True),
    "org": (octets(16), False),
    "instance": (octets(16), False),
    "time": (uint, True),
    "type": (one_of("event", "report", "withdrawal"), True),
    "format": (LINE, True),
    "tlp": (tlp, False),
    "to": (some(name), False),
    "keys": (some(octets(80)), False),
    "tags": (LINES, False),
    "links": (relations, False),
    "ext": (extensions, False),
    "content": (left_out, False),
    "n": (uint, True),
}


def versioned(cbor, table, whose):
    """A map with a version: another version is named first, since its keys may be others."""
    cbor.need(cbor.next_is(MAP), "it is no CBOR map")
    found = cbor.map()
    cbor.need("v" in found, "missing field 'v'")
    version = Cbor(found["v"], cbor.what).uint()
    need(version == 1, f"{whose} version {version}")
    return record(cbor, found, table)


def a_field(cbor):
    """A digest alone, or key, value and (perhaps) salt."""
    if cbor.next_is(BYTES):
        return cbor.bytes(32)
    parts = cbor.number_of(ARRAY)
    cbor.need(parts in (2, 3), "a field has two parts or three")
    return [cbor.text(), cbor.text()] + [cbor.bytes(16) for _ in range(parts - 2)]


def a_seal(cbor):
    index, count, proof, signature = cbor.tuple(uint, uint, lambda cbor: cbor.list(octets(32)), octets())
    need(len(signature) == 64, "a signature has 64 bytes")
    return index, count, proof, signature


def a_hop(cbor):
    """A name alone, or with what its node has signed."""
    if cbor.next_is(TEXT):
        return name(cbor)
    return cbor.tuple(name, octets(32), uint, a_seal)


def a_seed(cbor):
    return None if cbor.null() else cbor.bytes(32)


def an_envelope(cbor):
    cbor.need(cbor.next_is(ARRAY), "it is no array of five")
    return cbor.tuple(octets(), lambda cbor: cbor.list(a_field), a_seed, a_seal, lambda cbor: cbor.list(a_hop))


def salt_of(seed, place):
    return sha(seed, u32(place))[:16]


def digest_of(key, value, salt):
    return sha(salt, u32(len(key.encode())), key.encode(), value.encode())


def leaf_of(header, digests):
    return sha(b"\x00", ENVELOPE, sha(header), *digests)


def node(left, right):
    return sha(b"\x01", left, right)


def split(count):
    """The largest power of two below it."""
    return 1 << (count - 1).bit_length() - 1


def root_by(leaf, index, count, proof):
    """The root that a leaf and its audit path lead to: RFC 6962 §2.1.1, read backwards."""
    need(bool(proof) == (count > 1), "inclusion proof does not fit its batch")
    if count == 1:
        return leaf
    *below, beside = proof
    half = split(count)
    if index < half:
        return node(root_by(leaf, index, half, below), beside)
    return node(beside, root_by(leaf, index - half, count - half, below))


def content_id(fields, without):
    parts = b""
    for key, value in sorted((key.encode(), value.encode()) for key, value in fields):
        if key not in (b"raw", b"time.observation") and key.decode() not in without:
            parts += u32(len(key)) + key + u32(len(value)) + value
    return uuid.UUID(bytes=with_version(sha(CONTENT_ID, parts)[:16]))


def with_version(octets_16):
    """UUIDv8 of RFC 9562: version 8 and variant 2 in their six bits."""
    changed = bytearray(octets_16)
    changed[6] = changed[6] & 0x0F | 0x80
    changed[8] = changed[8] & 0x3F | 0x80
    return bytes(changed)


def root_in_batch(leaf, index, count, proof):
    need(1 <= count <= 1024 and index < count, "its place in its batch is impossible")
    return root_by(leaf, index, count, proof)


def hops_of(leaf, path):
    """§1.5. For each entry of a path None, or what its node has signed, and whether that holds for the key beside it."""
    found, before = [], None
    for place, hop in enumerate(path):
        if isinstance(hop, str):
            found.append(None)
            before = hop
            continue
        need(place, "the origin attests by its seal")
        whose, key, time, (index, count, proof, signature) = hop
        parts = [part for name in (before, whose) for part in (u32(len(name)), name.encode())]
        root = root_in_batch(sha(b"\x00", HOP, leaf, *parts, time.to_bytes(8, "big")), index, count, proof)
        found.append({"key": key.hex(), "time": time, "holds": verifies(key, signature, HOPS + root + u32(count))})
        before = whose
    return found


def need_encrypted(header, fields):
    """§1.6, as everybody sees it: with `keys`, the header says little, and there is one field."""
    to = header.get("to", [])
    need(len(to) == len(header["keys"]), "it has not as many keys as recipients")
    need(len(set(to)) == len(to), "it names a recipient twice")
    more = {"org", "instance", "tags", "ext", "content"} & header.keys()
    need(not more and header.get("links", {}).keys() <= {"withdraws"}, "its header says more than is needed")
    need(len(fields) == 1, "what is encrypted is one field")
    if not isinstance(fields[0], bytes):
        key, value, *_ = fields[0]
        need(key == "", "the encrypted field has no name")
        need(ciphertext_of(value) is not None, "the encrypted field is no base64")


def ciphertext_of(value):
    """The bytes of a JSON string of base64, or None. There is one form: full padding, no bits left over."""
    text = value[1:-1]
    if value != f'"{text}"' or not re.fullmatch("[A-Za-z0-9+/]*={0,2}", text) or len(text) % 4:
        return None
    found = base64.b64decode(text)
    return found if base64.b64encode(found).decode() == text else None


def open_envelope(data):
    """Everything about an envelope that needs nobody's key list: shape, fields, seal, id. What was found, or Refused."""
    what = "not an envelope's CBOR"
    need(len(data) <= 1 << 20, "limits.envelope: larger than 1 MiB")
    raw_header, fields, seed, (index, count, proof, signature), path = whole(data, what, an_envelope)
    header = whole(raw_header, f"{what}, header", lambda cbor: versioned(cbor, HEADER, "envelope"))
    need(len(fields) <= 4096, "limits.fields: more than 4,096")
    need(len(path) <= 32, "limits.path: more than 32 names")
    need(header["n"] == len(fields), "the header says another number of fields")
    if "keys" in header:
        need_encrypted(header, fields)

    digests, shown = [], []
    hidden = sum(isinstance(field, bytes) for field in fields)
    need(seed or hidden, "the seed is missing exactly when no field is hidden")
    for place, field in enumerate(fields):
        if isinstance(field, bytes):
            digests.append(field)
            continue
        key, value, *salt = field
        need(bool(salt) != bool(seed), f"field {place}: it has a salt and there is a seed, or neither")
        need(is_json(value), f"field {place}: its value is not JSON")
        shown.append((key, value))
        digests.append(digest_of(key, value, salt[0] if salt else salt_of(seed, place)))
    need(not seed or not hidden, "the seed is there exactly when no field is hidden")
    need(len({key for key, _ in shown}) == len(shown), "two fields have the same key")

    leaf = leaf_of(raw_header, digests)
    root = root_in_batch(leaf, index, count, proof)
    need(verifies(header["key"], signature, SEAL + root + u32(count)), "the signature does not verify")
    if "content" in header and not hidden:
        need(content_id(shown, header["content"]).bytes == header["id"], "its id is not that of its content")
    names = [hop if isinstance(hop, str) else hop[0] for hop in path]
    return {"header": header, "shown": shown, "hidden": hidden, "path": names, "hops": hops_of(leaf, path)}


def exactly(source):
    """JSON with its numbers and constants as they are spelt, so that == compares everything."""
    spelt = lambda kind: lambda word: {kind: word}
    return json.loads(source, parse_int=spelt("number"), parse_float=spelt("number"), parse_constant=spelt("number"))


IEP04_LINKS = [f"intelmq:{key}" for key in ("parent", "related", "group", "alternate")]


def iep04(found):
    """The JSON of §3, as a value to compare with another."""
    header, links = found["header"], found["header"].get("links", {})
    of_uuid = lambda octets_16: octets_16 and str(uuid.UUID(bytes=octets_16))
    when = str(header["time"])
    if header["time"] <= LAST_DATE:
        date = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=header["time"])
        when = date.isoformat(timespec="milliseconds") + "Z"
    meta = {"uuid": of_uuid(header["id"]), "tags": header.get("tags", [])}
    meta |= {"uuid_org": of_uuid(header.get("org")), "uuid_instance": of_uuid(header.get("instance"))}
    meta |= {f"intelmq:{key}": links.get(key) for key in ("parent", "related", "group", "alternate")}
    meta |= {f"relay:{key}": of_uuid(links.get(key)) for key in ("replaces", "withdraws")}
    meta |= {"relay:origin": header["origin"], "relay:time": when}
    meta |= {"relay:tlp": header.get("tlp"), "relay:to": header.get("to")}
    meta |= {"relay:path": "".join("!" + hop for hop in found["path"])}
    meta |= {"relay:hidden": found["hidden"] and exactly(str(found["hidden"]))}
    meta |= {"relay:encrypted": "keys" in header}
    meta = {key: value for key, value in meta.items() if value or value == "" or key == "tags"}
    plain = {"iep04:encoding": "encoding", "iep04:compress": "compress"}
    is_ours = lambda key: key.startswith("relay:") or key in IEP04_LINKS
    theirs = {key: value for key, value in header.get("ext", {}).items() if not is_ours(key)}
    meta |= {plain.get(key, key): exactly(value) for key, value in theirs.items()}
    message = {"format": header["format"], "version": exactly("1"), "type": header["type"], "meta": meta}
    is_mark = lambda key: header["format"] == "intelmq" and (key == "__type" or key.startswith("extra.relay."))
    payload = {key: exactly(value) for key, value in found["shown"] if not is_mark(key)}
    as_it_is = header["format"] != "intelmq" or "keys" in header and not found.get("opened")
    if header["n"]:
        message["payload"] = payload[""] if list(payload) == [""] and as_it_is else payload
    return message


# ------------------------------------------------------------------------------------------------------- §4 the roster

SHORT = text(1, 256)


def reversed_name(cbor):
    found = SHORT(cbor)
    need(re.fullmatch(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*", found), f"{found!r} is no reversed name")
    return found


def a_key(cbor):
    found = cbor.bytes(32)
    need(is_key(found), "not a canonical Ed25519 key, or one of small order")
    return found


def encryption_key(cbor):
    found = cbor.bytes(32)
    need(is_x25519(found), "no X25519 key to encrypt to")
    return found


KEY = {"key": (a_key, True), "from": (uint, False), "until": (uint, False), "revoked": (uint, False)}
MEMBER = {
    "name": (name, True),
    "keys": (lambda cbor: cbor.list(lambda cbor: cbor.record(KEY), 16), True),
    "org": (octets(16), False),
    "rdns": (reversed_name, False),
    "contact": (SHORT, False),
    "encryption": (encryption_key, False),
}
CONTENT = {
    "v": (uint, True),
    "network": (name, True),
    "number": (uint, True),
    "issued": (uint, True),
    "authorities": (lambda cbor: cbor.list(a_key, 32), True),
    "threshold": (uint, True),
    "members": (lambda cbor: cbor.list(lambda cbor: cbor.record(MEMBER), 10_000), True),
}


def roster_content(raw):
    content = whole(raw, "not its CBOR", lambda cbor: versioned(cbor, CONTENT, "roster"))
    authorities, members = content["authorities"], content["members"]
    need(content["number"] >= 1, "rosters count from 1")
    need(authorities and len(set(authorities)) == len(authorities), "no authority, or one twice")
    need(1 <= content["threshold"] <= len(authorities), "the threshold cannot be")
    names = [member["name"].encode() for member in members]
    need(all(a < b for a, b in zip(names, names[1:])), "members are not in the order of names")
    need(all(member["keys"] for member in members), "a member has no key")
    keys = [key for member in members for key in member["keys"]]
    need(len({key["key"] for key in keys}) == len(keys), "a key stands in it twice")
    need(all(key.get("from", -1) < key.get("until", 2**64) for key in keys), "a key ends before it begins")
    return content


def a_signed(cbor):
    return cbor.tuple(octets(), lambda cbor: cbor.list(a_signature, 32))


def a_signature(cbor):
    return cbor.tuple(a_key, octets(64))


def open_roster(data, authorities, threshold):
    """A roster as a node with these authorities and this threshold takes it, in the document's order; or Refused."""
    raw, signatures = whole(data, "not its CBOR", a_signed)
    need(len(raw) <= MIB, "larger than 1 MiB")
    signers = {key for key, _ in signatures}
    need(len(signers) == len(signatures), "somebody has signed the roster twice")
    for key, signature in signatures:
        if key in authorities:
            need(verifies(key, signature, ROSTER + raw), "a signature is not over this roster")
    counted = len(signers & set(authorities))
    need(counted >= threshold, f"signed by {counted} of the {len(authorities)}")
    content = roster_content(raw)
    need(signers <= set(content["authorities"]), "it does not name it as an authority, and it signed")
    return {"content": content, "digest": sha(raw), "raw": raw}


def follows(new, old):
    """Whether `new` takes the place of `old`: "newer" or "same", or Refused."""
    new_content, old_content = new["content"], old["content"]
    need(new_content["network"] == old_content["network"], "of another network")
    need(new_content["number"] >= old_content["number"], "a lower number")
    if new_content["number"] > old_content["number"]:
        return "newer"
    need(new["raw"] == old["raw"], "another roster of the same number")
    return "same"


# -------------------------------------------------------------------------------------------------------- §5 a notice

ABOUT_A_KEY = {
    "v": (uint, True),
    "origin": (name, True),
    "key": (a_key, True),
    "time": (uint, True),
    "next": (a_key, False),
    "until": (uint, False),
    "revoked": (uint, False),
    "encryption": (encryption_key, False),
}


def open_notice(data):
    need(len(data) <= 1024, "a notice has at most 1024 bytes")
    readers = octets(), octets(64), lambda cbor: None if cbor.null() else cbor.bytes(64)
    raw, signature, by_next = whole(data, "not its CBOR", lambda cbor: cbor.tuple(*readers))
    content = whole(raw, "not its CBOR", lambda cbor: versioned(cbor, ABOUT_A_KEY, "notice"))
    succession = "next" in content and "until" in content and "revoked" not in content
    revocation = "revoked" in content and "until" not in content
    need(succession or revocation, "it names a next key and a time, or a time from which the key is void")
    need(content.get("next") != content["key"], "its key follows itself")
    need("next" in content or "encryption" not in content, "a key to encrypt to goes with a next key")
    need("next" in content or by_next is None, "it names no next key, and somebody has signed as that")
    need("next" not in content or by_next is not None, "its next key has not signed")
    need(verifies(content["key"], signature, NOTICE + raw), "the signature is not over this notice")
    if by_next is not None:
        need(verifies(content["next"], by_next, NOTICE + raw), "the next key's signature is not over this notice")
    return content


# -------------------------------------------------------------------------------------------------------- §2 the frames

# That there are more notices at once than 64, or longer ones, is the link's to see, as whether slots are in their order.

VERDICTS = ("accepted", "completed", "duplicate", "loop", "too-old", "from-the-future", "unknown-origin", "bad-signature")
VERDICTS += ("too-big", "malformed", "withdrawn", "later")


def word_or(words, table):
    """One of these words, or a map of one entry that the table has."""

    def read(cbor):
        if cbor.next_is(TEXT):
            return one_of(*words)(cbor)
        found = record(cbor, cbor.map(), {key: (reader, False) for key, reader in table.items()})
        cbor.need(len(found) == 1, "a map of one entry is expected")
        return found

    return read


def tuple_of(*readers):
    return lambda cbor: cbor.tuple(*readers)


def below(bits):
    return lambda cbor: cbor.uint(2**bits - 1)


def entries(read):
    return lambda cbor: cbor.list(read, 512)


def have(cbor):
    return cbor.record({"number": (uint, True), "network": (name, False), "digest": (octets(32), False)})


def table(**rows):
    return lambda cbor: cbor.record({key: (read, True) for key, read in rows.items()})


def hello(cbor):
    rows = {"node": (name, True), "software": (Cbor.text, True), "log": (octets(16), True)}
    rows |= {"envelope_bytes": (uint, True), "frame_bytes": (uint, True), "test": (Cbor.bool, False)}
    found = cbor.record(rows)
    cbor.need(found.get("test", True), "`test` is absent when it is false")
    return found


VERDICT = word_or(VERDICTS, {"refused": Cbor.text})
OFFER = tuple_of(below(16), name, octets(16), below(32), below(16))
ANSWER = tuple_of(below(16), word_or(("want", "have", "later", "slow"), {"refuse": VERDICT}))
FRAMES = [
    hello,
    hello,
    Cbor.text,
    word_or(("now", "all"), {"time": uint, "token": octets()}),
    table(no=uint, offers=entries(OFFER), whole=octets(), token=octets()),
    table(no=uint, answers=entries(ANSWER)),
    table(no=uint, packed=octets()),
    table(no=uint, verdicts=entries(VERDICT), mode=one_of("offer", "whole")),
    table(token=octets()),
    have,
    octets(),
    entries(octets()),
]


def open_frame(data):
    """The first frame of what a stream has brought: its kind, what it says, and how many bytes it has taken."""
    length = 0
    for size in range(1, 11):
        need(len(data) >= size, "more bytes are needed")
        length |= (data[size - 1] & 0x7F) << 7 * (size - 1)
        if data[size - 1] < 0x80:
            break
    need(data[size - 1] < 0x80 and length > 0, "a frame whose length is no varint")
    need(size == 1 or data[size - 1] > 0, "a frame whose length is no varint, or not the shortest")
    need(length <= 4 * MIB, "limits.frame_bytes: longer than 4 MiB")
    need(len(data) >= size + length, "more bytes are needed")
    kind, body = data[size], data[size + 1 : size + length]
    need(kind < len(FRAMES), f"unknown kind {kind}")
    return {"kind": kind, "says": whole(body, "does not decode", FRAMES[kind]), "bytes": size + length}
