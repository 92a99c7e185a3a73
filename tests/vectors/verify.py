#!/usr/bin/env python3
"""A second implementation of docs/protocol.md: envelopes, encrypted ones too (§1), frames (§2), rosters (§4), notices (§5)
and joining (§6), strict, and slow.

It was written from that document and the standards that it names, without a look at the Rust sources, and is to stay so:
where it and the crate judge the same bytes differently, one of them has a fault, or the document a hole. It needs the
packages `cryptography` and `cbor2`. How to read is in formats.py, encrypted.py and joining.py, what is stricter than the
libraries in strict.py. Of the words that are compared by voice it has the numbers, and not the list.

    verify.py           judges the vectors beside it; prints those that come out otherwise, and how many there were
    verify.py --make    prints envelopes, rosters and notices of its own, a JSON object on each line
    verify.py --judge   reads {"kind": …, "hex": …} from each line of its input, and prints what it makes of it
"""

import json
import pathlib
import sys
import traceback

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import encrypted
import formats
import joining
from formats import content_id, digest_of, exactly, iep04, leaf_of, node, salt_of, sha, split, u32
from strict import Refused

# Whose seeds an ask is judged by: 32 times this byte.
HOST, TICKET = 1, 7
TIME = 1_795_514_400_000

HERE = pathlib.Path(__file__).parent

# --------------------------------------------------------------------------------------------------------------- judge


def vectors(kind):
    return json.loads((HERE / f"{kind}.json").read_text())


def configured():
    """The authorities and the threshold that the vectors are judged by: those of the first roster."""
    first = cbor2.loads(cbor2.loads(bytes.fromhex(vectors("roster")[0]["roster"]))[0])
    return first["authorities"], first["threshold"]


def in_json(value):
    """What was read from CBOR, as exactly() would have it: bytes in hexadecimal."""
    if isinstance(value, dict):
        return {key: in_json(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [in_json(entry) for entry in value]
    if isinstance(value, bytes):
        return value.hex()
    return {"number": str(value)} if type(value) is int else value


def facts_of(kind, data, before=None, node=None, seed=None):
    """What is found in bytes of this kind, as JSON; or Refused. Of a roster: also in the place of one from before.

    Of an encrypted envelope: by the recipient of this name and seed.
    """
    if kind == "envelope":
        return iep04(formats.open_envelope(data))
    if kind == "hops":
        return in_json(formats.open_envelope(data)["hops"])
    if kind == "encrypted":
        return iep04(encrypted.open_encrypted(formats.open_envelope(data), node, seed))
    if kind == "notice":
        return in_json(formats.open_notice(data))
    if kind == "line":
        *said, secret, expires, guest = joining.open_line(data.decode())
        return in_json([*said, public(Ed25519PrivateKey.from_private_bytes(joining.ticket_seed(secret))), expires, guest])
    if kind == "message":
        return in_json(joining.open_message(data))
    if kind == "ask":
        return in_json(joining.open_ask(data, public(key_of(TICKET)), public(key_of(HOST))))
    if kind == "roster":
        found = formats.open_roster(data, *configured())
        newer = before and formats.follows(found, formats.open_roster(before, *configured())) == "newer"
        content = found["content"]
        members = {member["name"]: [key["key"].hex() for key in member["keys"]] for member in content["members"]}
        number = exactly(str(content["number"]))
        return {"digest": found["digest"].hex(), "number": number, "newer": newer, "members": members}
    found = formats.open_frame(data)
    return {"kind": exactly(str(found["kind"])), "bytes": exactly(str(found["bytes"]))}


def verdict(given):
    """On {"kind", "hex", "before", "json"}; the last is what another has found, and must be what is found here.

    Never raises: bytes from outside that make it stumble are a failure like any other.
    """
    try:
        before, seed = (given.get(key) and bytes.fromhex(given[key]) for key in ("before", "seed"))
        found = facts_of(given["kind"], bytes.fromhex(given["hex"]), before, given.get("recipient"), seed)
        if "json" in given and exactly(given["json"]) != found:
            return {"finds": ascii(found)}
        return {"ok": True}
    except Refused as refused:
        return {"refused": str(refused)}
    except Exception:
        return {"crashed": traceback.format_exc(limit=-2)}


def wrong_with(file, vector):
    """Why this vector does not come out as it says; None if it does."""
    kind = {"frames": "frame"}.get(file, file)
    more = {key: vector[key] for key in ("json", "recipient", "seed") if key in vector}
    data = vector.get(kind) or vector["envelope"]
    found = verdict({"kind": kind, "hex": data} | more)
    if "encryption" in vector:
        public = encrypted.encryption_pair(bytes.fromhex(vector["seed"]))[1]
        if encrypted.as_text(public) != vector["encryption"]:
            return encrypted.as_text(public)
    if vector["expect"] == "ok":
        if "hops" in vector and "ok" in found:
            found = verdict({"kind": "hops", "hex": data, "json": json.dumps(vector["hops"])})
        return None if "ok" in found else found
    # What is not in the one form is refused by our reader for the first thing that it meets.
    reasons = (vector["expect"], "CBOR") if vector["expect"] == "one form" else (vector["expect"],)
    return None if any(reason in found.get("refused", "") for reason in reasons) else found


def checks():
    """(vector's name, what it says must come, what is wrong with that)."""
    for file in ("envelope", "encrypted", "roster", "notice", "frames"):
        for vector in vectors(file):
            yield f"{file}.json, {vector['name']}", vector["expect"], wrong_with(file, vector)
    vector = vectors("join")
    again = join_again(vector)
    # The words are not in it, but the list is in the order of the alphabet, and so is that of their numbers.
    again["words"] = " ".join(in_alphabet(vector["words"].split(), again["numbers"]))
    missing = vector.keys() - again.keys() - {"addresses", "expires", "secret"}
    yield "join.json", vector, missing or {entry: found for entry, found in again.items() if found != vector[entry]}


def in_alphabet(words, numbers):
    """The words in the order that their numbers ask for."""
    by_number = dict(zip(sorted(set(numbers)), sorted(set(words))))
    return [by_number.get(number, "?") for number in numbers]


def join_again(vector):
    """The exchange that join.json describes, made anew of the names, seeds, addresses and the secret in it."""
    host, guest = vector["host"], vector["guest"]
    sides = [(side["name"], Ed25519PrivateKey.from_private_bytes(bytes.fromhex(side["seed"]))) for side in (host, guest)]
    (host_name, host_key), (guest_name, guest_key) = ((name, public(key)) for name, key in sides)
    host_seed, guest_seed = (key.private_bytes_raw() for _, key in sides)
    secret = bytes.fromhex(vector["secret"])
    ticket_seed = joining.ticket_seed(secret)
    ticket = public(Ed25519PrivateKey.from_private_bytes(ticket_seed))
    content = [host_name, host_key, vector["addresses"], secret, vector["expires"], guest_name]
    assert joining.open_line(vector["line"]) == content
    again = {"line": joining.line_of(cbor2.dumps(content))}
    again |= {"ticket": {"seed": ticket_seed.hex(), "key": ticket.hex()}}

    # What the two say of themselves is nowhere but in the messages; all else that these hold is made here.
    asked = joining.open_ask(bytes.fromhex(vector["ask"]), ticket, host_key)
    guest_nonce = joining.guest_nonce(guest_seed, ticket, host_key)
    committed = joining.commitment(guest_nonce)
    host_nonce = joining.host_nonce(host_seed, ticket, guest_key, committed)
    asked |= {"node": guest_name, "key": guest_key, "commitment": committed}
    asked |= {"encryption": encrypted.encryption_pair(guest_seed)[1]}
    raw = cbor2.dumps(asked)
    signature = sides[1][1].sign(joining.possession(ticket, host_key, raw))
    welcomed = joining.open_message(bytes.fromhex(vector["welcome"]))["welcome"]
    welcomed |= {"node": host_name, "encryption": encrypted.encryption_pair(host_seed)[1]}
    refused = joining.open_message(bytes.fromhex(vector["refused"]))
    messages = {"ask": {"ask": [raw, signature]}, "nonce_message": {"nonce": host_nonce}}
    messages |= {"welcome": {"welcome": welcomed}, "refused": refused}
    again |= {entry: cbor2.dumps(message).hex() for entry, message in messages.items()}
    again |= {"host_nonce": host_nonce.hex(), "guest_nonce": guest_nonce.hex(), "commitment": committed.hex()}
    again |= {side: vector[side] | {"key": key.hex()} for side, key in (("host", host_key), ("guest", guest_key))}
    again |= {"numbers": joining.numbers(ticket, (host_name, host_key, host_nonce), (guest_name, guest_key, guest_nonce))}
    return again


def check_vectors():
    count = failures = 0
    for name, expected, wrong in checks():
        count += 1
        if wrong:
            failures += 1
            print(f"{name}: {expected!r} is expected, and not {wrong}")
    print(f"{count} vectors, {failures} failures")
    return failures == 0


def judge():
    for line in sys.stdin:
        print(json.dumps(verdict(json.loads(line))))


# ---------------------------------------------------------------------------------------------------------------- make


def key_of(number):
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def public(key):
    return key.public_key().public_bytes_raw()


def root_of(leaves):
    if len(leaves) == 1:
        return leaves[0]
    half = split(len(leaves))
    return node(root_of(leaves[:half]), root_of(leaves[half:]))


def proof_of(index, leaves):
    if len(leaves) == 1:
        return []
    half = split(len(leaves))
    if index < half:
        return proof_of(index, leaves[:half]) + [root_of(leaves[half:])]
    return proof_of(index - half, leaves[half:]) + [root_of(leaves[:half])]


def in_form(header):
    """The bytes of a header, its keys in the order that they have."""
    return cbor2.dumps({key: header[key] for key in formats.HEADER if key in header})


def seal(key, events):
    """Envelopes of one batch, as lists: each event is (header without `key` and `n`, fields, seed)."""
    headers = [in_form(header | {"key": public(key), "n": len(fields)}) for header, fields, _ in events]
    leaves = []
    for raw, (_, fields, seed) in zip(headers, events):
        digests = [digest_of(name, value, salt_of(seed, place)) for place, (name, value) in enumerate(fields)]
        leaves.append(leaf_of(raw, digests))
    signature = key.sign(formats.SEAL + root_of(leaves) + u32(len(leaves)))
    seals = [[index, len(leaves), proof_of(index, leaves), signature] for index in range(len(leaves))]
    return [
        [raw, [list(field) for field in fields], seed, seal, [header["origin"]]]
        for raw, seal, (header, fields, seed) in zip(headers, seals, events)
    ]


def hide(envelope, keys):
    """What a node gives on that keeps these fields back."""
    header, fields, seed, *rest = envelope
    given = []
    for place, (key, value) in enumerate(fields):
        salt = salt_of(seed, place)
        given.append(digest_of(key, value, salt) if key in keys else [key, value, salt])
    return [header, given, None, *rest]


def header(number, **more):
    id = bytes([number]) * 6 + b"\x40" + bytes([number]) + b"\x80" + bytes([number]) * 7
    always = {"v": 1, "id": id, "origin": "cert-py", "time": TIME + number, "type": "event"}
    return always | {"format": "intelmq"} | more


def sign_roster(content, keys):
    raw = cbor2.dumps(content)
    return cbor2.dumps([raw, [[public(key), key.sign(formats.ROSTER + raw)] for key in keys]])


def attest(key, envelope, name, time, others=511, place=100, domain=formats.HOPS):
    """The envelope with a node at the end of its path that attests to it: between so many others, at this place."""
    *rest, path = envelope
    header, fields, seed, _ = rest
    digests = [field if isinstance(field, bytes) else digest_of(field[0], field[1], salt_of(seed, at) if seed else field[2])
               for at, field in enumerate(fields)]
    before = path[-1] if isinstance(path[-1], str) else path[-1][0]
    parts = [part for text in (before, name) for part in (u32(len(text)), text.encode())]
    leaf = sha(b"\x00", formats.HOP, leaf_of(header, digests), *parts, time.to_bytes(8, "big"))
    leaves = [sha(b"noise", u32(other)) for other in range(others)]
    leaves.insert(place, leaf)
    signature = key.sign(domain + root_of(leaves) + u32(len(leaves)))
    return [*rest, [*path, [name, public(key), time, [place, len(leaves), proof_of(place, leaves), signature]]]]


def seal_encrypted(key, header, inner, recipients, content_key=b"\x07" * 32, **more):
    """An envelope encrypted to (name, seed)s; `inner` is what is in it, as a dict or in bytes."""
    header = header | {"key": public(key), "to": [name for name, _ in recipients]}
    to = [encrypted.encryption_pair(seed)[1] for _, seed in recipients]
    inner = inner if isinstance(inner, bytes) else cbor2.dumps(inner)
    ephemerals = [sha(b"ephemeral", u32(place)) for place in range(len(to))]
    keys, value = encrypted.encrypt(header, inner, to, content_key, ephemerals)
    return seal(key, [(header | {"keys": keys}, [("", value)], bytes(32))])[0]


def sign_notice(content, key, next=None):
    raw = cbor2.dumps({entry: content[entry] for entry in formats.ABOUT_A_KEY if entry in content})
    return cbor2.dumps([raw, key.sign(formats.NOTICE + raw), next and next.sign(formats.NOTICE + raw)])


def notice(key, **more):
    return {"v": 1, "origin": "cert-py", "key": public(key), "time": TIME} | more


def made():
    """(name, kind, bytes, what else is needed to judge): what other nodes would give, of all kinds."""
    fields = [("source.ip", '"192.0.2.7"'), ("raw", '"eA=="'), ("extra.n", "NaN"), ("feed.name", '"\\ud800 é"')]
    by_content = content_id(fields, ["feed.name"]).bytes
    events = [
        (header(1, tlp="GREEN", to=["cert-at"], tags=["é"], links={"related": ["RT#1"]}), fields, bytes(32)),
        (header(2, ext={"x-a": "[1.0]"}), [], b"\x01" * 32),
        (header(3, content=["feed.name"]) | {"id": by_content}, fields, b"\x02" * 32),
    ]
    batch = seal(key_of(21), events)
    for number, envelope in enumerate(batch):
        yield f"{number} of a batch of three", "envelope", cbor2.dumps(envelope), {}
    hidden = hide(batch[0], ["source.ip", "feed.name"])
    yield "with two fields hidden", "envelope", cbor2.dumps(hidden), {}
    passed_on = hide(batch[0], ["raw", "source.ip", "extra.n", "feed.name"])
    yield "with all hidden, passed on", "envelope", cbor2.dumps(passed_on[:4] + [["cert-py", "cert-ee"]]), {}

    for name, envelope in (("attested", batch[2]), ("attested, with two fields hidden", hidden)):
        twice = attest(key_of(23), attest(key_of(22), envelope, "cert-ee", 1), "cert-pl", 2, others=4, place=2)
        yield name, "hops", cbor2.dumps(twice), {}

    inner = {"org": bytes(16), "tags": ["é"], "links": {"group": ["g"], "replaces": bytes(16)}, "ext": {"x-a": "[1.0]"}}
    recipients = [("cert-ee", b"\x02" * 32), ("cert-pl", b"\x03" * 32)]
    closed = seal_encrypted(key_of(21), header(4, tlp="RED"), inner | {"fields": fields}, recipients)
    for name, seed in recipients:
        yield f"encrypted, for {name}", "encrypted", cbor2.dumps(closed), {"recipient": name, "seed": seed.hex()}
    yield "encrypted, for those between", "envelope", cbor2.dumps(closed), {}

    authorities = [key_of(number) for number in (1, 2, 3)]  # those that the vectors are judged by
    member = {"name": "cert-py", "keys": [{"key": public(key_of(21)), "from": 1, "revoked": 0}], "contact": "é"}
    content = {"v": 1, "network": "pythons", "number": 1, "issued": 0}
    content |= {"authorities": [public(key) for key in authorities], "threshold": 2, "members": [member]}
    yield "a roster", "roster", sign_roster(content, authorities[:2]), {}
    yield "its successor", "roster", sign_roster(content | {"number": 2}, authorities[1:]), {}

    key, next = key_of(21), key_of(31)
    follows = notice(key, next=public(next), until=2**40, encryption=encrypted.encryption_pair(b"\x1f" * 32)[1])
    yield "a succession", "notice", sign_notice(follows, key, next), {}
    yield "a revocation", "notice", sign_notice(notice(key, revoked=0), key), {}


def make():
    for name, kind, data, more in made():
        print(json.dumps({"name": name, "kind": kind, "hex": data.hex()} | more))


if __name__ == "__main__":
    what = {(): check_vectors, ("--make",): make, ("--judge",): judge}.get(tuple(sys.argv[1:]))
    if not what:
        sys.exit(__doc__)
    sys.exit(what() is False)
