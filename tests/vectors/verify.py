#!/usr/bin/env python3
"""A second implementation of docs/protocol.md: envelopes (§1), frames (§2) and rosters (§4), strict, and slow.

It was written from that document and the standards that it names, without a look at the Rust sources, and is to stay so:
where it and the crate judge the same bytes differently, one of them has a fault, or the document a hole. It needs the
packages `cryptography` and `cbor2`. How to read is in formats.py, what is stricter than the libraries in strict.py.

    verify.py           judges the vectors beside it; prints those that come out otherwise, and how many there were
    verify.py --make    prints envelopes and rosters of its own, a JSON object on each line
    verify.py --judge   reads {"kind": …, "hex": …} from each line of its input, and prints what it makes of it
"""

import json
import pathlib
import sys
import traceback

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import formats
from formats import content_id, digest_of, exactly, iep04, leaf_of, node, salt_of, sha, split, u32
from strict import Refused

HERE = pathlib.Path(__file__).parent

# --------------------------------------------------------------------------------------------------------------- judge


def vectors(kind):
    return json.loads((HERE / f"{kind}.json").read_text())


def configured():
    """The authorities and the threshold that the vectors are judged by: those of the first roster."""
    first = cbor2.loads(cbor2.loads(bytes.fromhex(vectors("roster")[0]["roster"]))[0])
    return first["authorities"], first["threshold"]


def facts_of(kind, data, before=None):
    """What is found in bytes of this kind, as JSON; or Refused. Of a roster: also in the place of one from before."""
    if kind == "envelope":
        return iep04(formats.open_envelope(data))
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
        before = given.get("before") and bytes.fromhex(given["before"])
        found = facts_of(given["kind"], bytes.fromhex(given["hex"]), before)
        if "json" in given and exactly(given["json"]) != found:
            return {"finds": ascii(found)}
        return {"ok": True}
    except Refused as refused:
        return {"refused": str(refused)}
    except Exception:
        return {"crashed": traceback.format_exc(limit=-2)}


def wrong_with(kind, vector):
    """Why this vector does not come out as it says; None if it does."""
    found = verdict({"kind": kind, "hex": vector[kind]} | ({"json": vector["json"]} if "json" in vector else {}))
    if vector["expect"] == "ok":
        return None if "ok" in found else found
    # What is not in the one form is refused by our reader for the first thing that it meets.
    reasons = (vector["expect"], "CBOR") if vector["expect"] == "one form" else (vector["expect"],)
    return None if any(reason in found.get("refused", "") for reason in reasons) else found


def check_vectors():
    count = failures = 0
    for file, kind in (("envelope", "envelope"), ("roster", "roster"), ("frames", "frame")):
        for vector in vectors(file):
            count += 1
            wrong = wrong_with(kind, vector)
            if wrong:
                failures += 1
                print(f"{file}.json, {vector['name']}: {vector['expect']!r} is expected, and not {wrong}")
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
    always = {"v": 1, "id": id, "origin": "cert-py", "time": 1_795_514_400_000 + number, "type": "event"}
    return always | {"format": "intelmq"} | more


def sign_roster(content, keys):
    raw = cbor2.dumps(content)
    return cbor2.dumps([raw, [[public(key), key.sign(formats.ROSTER + raw)] for key in keys]])


def made():
    """(name, kind, bytes): a batch of three, one of it with fields hidden, a content id, and rosters by two of three."""
    fields = [("source.ip", '"192.0.2.7"'), ("raw", '"eA=="'), ("extra.n", "NaN"), ("feed.name", '"\\ud800 é"')]
    by_content = content_id(fields, ["feed.name"]).bytes
    events = [
        (header(1, tlp="GREEN", to=["cert-at"], tags=["é"], links={"related": ["RT#1"]}), fields, bytes(32)),
        (header(2, ext={"x-a": "[1.0]"}), [], b"\x01" * 32),
        (header(3, content=["feed.name"]) | {"id": by_content}, fields, b"\x02" * 32),
    ]
    batch = seal(key_of(21), events)
    for number, envelope in enumerate(batch):
        yield f"{number} of a batch of three", "envelope", cbor2.dumps(envelope)
    yield "with two fields hidden", "envelope", cbor2.dumps(hide(batch[0], ["source.ip", "feed.name"]))
    passed_on = hide(batch[0], ["raw", "source.ip", "extra.n", "feed.name"])
    yield "with all hidden, passed on", "envelope", cbor2.dumps(passed_on[:4] + [["cert-py", "cert-ee"]])

    authorities = [key_of(number) for number in (1, 2, 3)]  # those that the vectors are judged by
    member = {"name": "cert-py", "keys": [{"key": public(key_of(21)), "from": 1, "revoked": 0}], "contact": "é"}
    content = {"v": 1, "network": "pythons", "number": 1, "issued": 0}
    content |= {"authorities": [public(key) for key in authorities], "threshold": 2, "members": [member]}
    yield "a roster", "roster", sign_roster(content, authorities[:2])
    yield "its successor", "roster", sign_roster(content | {"number": 2}, authorities[1:])


def make():
    for name, kind, data in made():
        print(json.dumps({"name": name, "kind": kind, "hex": data.hex()}))


if __name__ == "__main__":
    what = {(): check_vectors, ("--make",): make, ("--judge",): judge}.get(tuple(sys.argv[1:]))
    if not what:
        sys.exit(__doc__)
    sys.exit(what() is False)
