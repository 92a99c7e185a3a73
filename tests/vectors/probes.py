#!/usr/bin/env python3
"""Of the second implementation (verify.py): bytes at the edges of docs/protocol.md, for both implementations to judge.

Each is sealed or signed rightly, so that nothing but the edge decides. `probes.py SEED` prints {"name", "kind", "hex"} on each
line, of some rosters with the one "before"; the seed is for those that are made by chance.
"""

import json
import random
import sys

import cbor2
import formats
from formats import MIB, ROSTER, SEAL, digest_of, leaf_of, salt_of, u32
from strict import L, P, D, SMALL
from verify import configured, header, hide, in_form, key_of, made, public, seal, vectors

KEY = key_of(21)
SEED = bytes(32)
FIELDS = [("source.ip", '"192.0.2.7"'), ("raw", '"eA=="')]


def sealed(raw_header, fields=FIELDS, sign=KEY.sign):
    """An envelope as a list, by itself in its batch, over a header of any bytes."""
    digests = [digest_of(key, value, salt_of(SEED, place)) for place, (key, value) in enumerate(fields)]
    signature = sign(SEAL + leaf_of(raw_header, digests) + u32(1))
    return [raw_header, [list(field) for field in fields], SEED, [0, 1, [], signature], ["cert-py"]]


def full(fields=FIELDS, **more):
    """A header whose keys are in their order."""
    there = header(1) | {"key": public(KEY), "n": len(fields)} | more
    return {key: there[key] for key in formats.HEADER if key in there}


# ---- By hand: headers ------------------------------------------------------------------------------------------------


def indefinite(major, *items):
    return bytes([major << 5 | 31]) + b"".join(items) + b"\xff"


def pair(key, value):
    return cbor2.dumps(key) + cbor2.dumps(value)


def headers():
    """Headers that differ from a good one in one place: (name, bytes of the header)."""
    uuid, text = b"\x11" * 16, "t" * 1024
    changes = {
        "list of 256": {"tags": ["t"] * 256},
        "list of 257": {"tags": ["t"] * 257},
        "text of 1024": {"tags": [text]},
        "text of 1025": {"tags": [text + "t"]},
        "text of 1025 bytes in fewer characters": {"tags": ["é" * 512 + "t"]},
        "empty tag": {"tags": [""]},
        "empty parent": {"links": {"parent": ""}},
        "empty format": {"format": ""},
        "long format": {"format": text},
        "too long format": {"format": text + "t"},
        "format with colon": {"format": "a:b"},
        "format with line end": {"format": "a\nb"},
        "format not ASCII": {"format": "é"},
        "tag with DEL": {"tags": ["a\x7fb"]},
        "tag with C1 control": {"tags": ["a\x85b"]},
        "tag with line separator": {"tags": ["a\u2028b"]},
        "tag with right-to-left mark": {"tags": ["a\u202eb"]},
        "tag with NUL": {"tags": ["\0"]},
        "extension with DEL in its key": {"ext": {"x-\x7f": "1"}},
        "extension with a line end in its value": {"ext": {"x-a": "[1,\n2]"}},
        "extension with a tab before its value": {"ext": {"x-a": "\t1"}},
        "extension with a blank behind its value": {"ext": {"x-a": "1 "}},
        "extension with a long value": {"ext": {"x-a": '"' + "a" * 1022 + '"'}},
        "extension with a too long value": {"ext": {"x-a": '"' + "a" * 1023 + '"'}},
        "256 extensions": {"ext": {f"x-{n:03}": "1" for n in range(256)}},
        "257 extensions": {"ext": {f"x-{n:03}": "1" for n in range(257)}},
        "extension of capitals": {"ext": {"X-a": "1"}},
        "extension x-:": {"ext": {"x-:": "1"}},
        "extension a:": {"ext": {"a:": "1"}},
        "extension :a": {"ext": {":a": "1"}},
        "extension a:b:c": {"ext": {"a:b:c": "1"}},
        "extension with blank": {"ext": {"a b:c d": "1"}},
        "extension not ASCII": {"ext": {"é:é": "1"}},
        "extension relay:x": {"ext": {"relay:x": "1"}},
        "extension intelmq:x": {"ext": {"intelmq:parent": '"p"'}},
        "extension iep04:uuid": {"ext": {"iep04:uuid": '"p"'}},
        "extensions out of order": {"ext": {"x-b": "1", "x-a": "1"}},
        "extensions in the order of bytes": {"ext": {"x-aa": "1", "x-b": "1"}},
        "extension of null": {"ext": {"x-a": "null"}},
        "extension nested 128 deep": {"ext": {"x-a": "[" * 128 + "]" * 128}},
        "extension nested 129 deep": {"ext": {"x-a": "[" * 129 + "]" * 129}},
        "empty to": {"to": []},
        "empty tags": {"tags": []},
        "empty links": {"links": {}},
        "empty ext": {"ext": {}},
        "empty related": {"links": {"related": []}},
        "null tlp": {"tlp": None},
        "null org": {"org": None},
        "null tags": {"tags": None},
        "null links": {"links": None},
        "null content": {"content": None},
        "null parent": {"links": {"parent": None}},
        "to of 256": {"to": [f"n{n}" for n in range(256)]},
        "to of 257": {"to": [f"n{n}" for n in range(257)]},
        "to twice the same": {"to": ["a", "a"]},
        "to itself": {"to": ["cert-py"]},
        "links of 257": {"links": {"group": ["g"] * 257}},
        "origin of 63": {"origin": "a" * 63},
        "origin of 64": {"origin": "a" * 64},
        "origin of a dash": {"origin": "-"},
        "origin with dash first": {"origin": "-a"},
        "origin with dash last": {"origin": "a-"},
        "origin of a digit": {"origin": "1"},
        "time 0": {"time": 0},
        "time in year 9999": {"time": 253_402_300_799_999},
        "time in year 10000": {"time": 253_402_300_800_000},
        "time of 63 bits": {"time": 2**63 - 1},
        "time of 64 bits": {"time": 2**64 - 1},
        "time a float": {"time": 1.0},
        "time too large": {"time": 2**64},
        "v a text": {"v": "1"},
        "v 0": {"v": 0},
        "v of 64 bits": {"v": 2**64 - 1},
        "n of 32 bits": {"n": 2**32 + 2},
        "tlp in small letters": {"tlp": "green"},
        "tlp WHITE": {"tlp": "WHITE"},
        "type Event": {"type": "Event"},
        "id all zero": {"id": bytes(16)},
        "id of no version": {"id": b"\xff" * 16},
        "id as text": {"id": "72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b"},
        "content of other than feed": {"content": ["source.ip"]},
        "content of feed.": {"content": ["feed."]},
        "content of feedx": {"content": ["feedx"]},
        "withdrawal without links": {"type": "withdrawal"},
        "withdrawal of itself": {"type": "withdrawal", "links": {"withdraws": header(1)["id"]}},
        "event that withdraws": {"links": {"withdraws": uuid}},
        "withdrawal that replaces": {"type": "withdrawal", "links": {"withdraws": uuid, "replaces": uuid}},
    }
    for name, change in changes.items():
        yield name, cbor2.dumps(full(**change))

    good = full(tags=["t"], links={"parent": "p"})
    pairs = [pair(key, value) for key, value in good.items()]
    yield "indefinite map", indefinite(5, *pairs)
    yield "other order", bytes([0xA0 | len(pairs)]) + b"".join(reversed(pairs))
    of = lambda key, item: bytes([0xA0 | len(pairs)]) + b"".join(
        cbor2.dumps(key) + item if key == name else pair(name, value) for name, value in good.items()
    )
    yield "indefinite list", of("tags", indefinite(4, cbor2.dumps("t")))
    yield "indefinite inner map", of("links", indefinite(5, pair("parent", "p")))
    yield "text in pieces", of("format", indefinite(3, cbor2.dumps("intel"), cbor2.dumps("mq")))
    yield "bytes in pieces", of("id", indefinite(2, cbor2.dumps(bytes(8)), cbor2.dumps(bytes(8))))
    yield "key in pieces", cbor2.dumps(good).replace(cbor2.dumps("tags"), indefinite(3, cbor2.dumps("tags")))
    yield "number longer than it must be", of("v", b"\x18\x01")
    yield "number of eight bytes", of("v", b"\x1b" + bytes(7) + b"\x01")
    yield "length longer than it must be", of("format", b"\x78\x07intelmq")
    yield "tagged number", of("v", b"\xc1\x01")
    yield "tagged text", of("format", b"\xd8\x20\x67intelmq")
    yield "tagged map", b"\xd9\xd9\xf7" + cbor2.dumps(good)
    yield "tagged bytes", of("id", b"\xd8\x25" + cbor2.dumps(header(1)["id"]))
    yield "id a list of numbers", of("id", cbor2.dumps(list(range(16))))
    yield "text as bytes", of("format", cbor2.dumps(b"intelmq"))
    yield "undefined tlp", b"\xa9" + b"".join(pair(key, value) for key, value in full().items()) + pair("tlp", cbor2.undefined)
    yield "key as bytes", cbor2.dumps({key.encode(): value for key, value in good.items()})
    yield "numbered keys", cbor2.dumps(dict(enumerate(good.values())))
    yield "reserved length", of("v", b"\x1c\x01")
    yield "simple value", of("v", b"\xe1")
    yield "bignum", of("time", b"\xc2\x41\x01")
    yield "text of no UTF-8", of("format", b"\x62\xc3\x28")
    yield "text with a surrogate", of("format", b"\x63\xed\xa0\x80")
    yield "same key in an inner map", of("links", b"\xa2" + pair("parent", "p") + pair("parent", "q"))
    yield "same extension twice", cbor2.dumps(full(ext={"x-a": "1"})).replace(
        b"\xa1" + pair("x-a", "1"), b"\xa2" + pair("x-a", "1") + pair("x-a", "2")
    )
    yield "unknown key, deep", cbor2.dumps(full())[:1].replace(b"\xa8", b"\xa9") + cbor2.dumps(full())[1:] + (
        cbor2.dumps("a") + b"\x81" * 100_000 + b"\xf6"
    )


# ---- By hand: the rest of the envelope -------------------------------------------------------------------------------


def json_values():
    return {
        "blanks around": " 1 ",
        "line ends around": "\n1\r\n",
        "vertical tab before": "\v1",
        "no-break space": "\xa01",
        "byte order mark": "\ufeff1",
        "minus NaN": "-NaN",
        "nan": "nan",
        "minus alone": "-",
        "plus": "+1",
        "minus zero": "-0",
        "dot first": ".5",
        "dot last": "5.",
        "exponent": "1E+5",
        "exponent empty": "1e",
        "exponent with leading zero": "1e05",
        "huge exponent": "1e999999",
        "hexadecimal": "0x10",
        "5000 digits": "9" * 5000,
        "5000 digits behind the dot": "0." + "9" * 5000,
        "fullwidth digit": "１",
        "infinity": "Infinity",
        "infinite": "Infinit",
        "capital": "True",
        "null": "null",
        "single quotes": "'a'",
        "comma last": "[1,]",
        "comma last in object": '{"a": 1,}',
        "key without quotes": "{a: 1}",
        "number as key": "{1: 1}",
        "same key twice": '{"a": 1, "a": 2}',
        "empty object with blanks": "{ }",
        "comment": "1 // one",
        "surrogates": r'"\ud83d\ude00"',
        "low surrogate": r'"\ude00"',
        "escape of three": r'"\u12"',
        "escape with underscore": r'"\u1_23"',
        "escape with sign": r'"\u+123"',
        "escape in capitals": r'"\U0041"',
        "escape x": r'"\x41"',
        "escape slash": r'"\/"',
        "escape quote": r'"\'"',
        "escaped NUL": r'"\u0000"',
        "raw NUL": '"\0"',
        "raw DEL": '"\x7f"',
        "raw tab": '"\t"',
        "raw line separator": '"\u2028"',
        "open string": '"a',
        "open escape": '"a\\',
        "brackets in a string": '"' + "[" * 200 + '"',
        "quote and bracket in a string": r'"\"' + "[" * 200 + '"',
        "128 deep": "[" * 128 + "]" * 128,
        "129 deep": "[" * 129 + "]" * 129,
        "128 deep with a value": "[" * 128 + "1" + "]" * 128,
        "128 objects deep": '{"a":' * 128 + "1" + "}" * 128,
        "129 objects deep": '{"a":' * 129 + "1" + "}" * 129,
        "100000 deep": "[" * 100_000,
        "empty array": "[]",
        "closing": "]",
    }


def with_path(path):
    return sealed(cbor2.dumps(full()))[:4] + [path]


def field_lists():
    yield "key empty", [("", "1")]
    yield "key empty, more keys", [("", "1"), ("a", "1")]
    yield "key with line end", [("a\nb", "1")]
    yield "key with NUL", [("\0", "1")]
    yield "key not ASCII", [("é", "1")]
    yield "key of 2000", [("k" * 2000, "1")]
    yield "key of 70000", [("k" * 70_000, "1")]
    yield "value of 500000", [("a", '"' + "a" * 500_000 + '"')]
    yield "4096 fields", [(str(n), "1") for n in range(4096)]
    yield "4097 fields", [(str(n), "1") for n in range(4097)]
    yield "key __type", [("__type", '"Event"')]


def envelopes():
    for name, raw in headers():
        yield "header: " + name, cbor2.dumps(sealed(raw))
    for name, value in json_values().items():
        yield "value: " + name, cbor2.dumps(sealed(cbor2.dumps(full([0])), [("a", value)]))
    for name, fields in field_lists():
        yield "field: " + name, cbor2.dumps(sealed(cbor2.dumps(full(fields)), fields))
    for format in ("n6", "intelmq"):
        for name, fields in (("text", [("", '"t"')]), ("object", [("", "{}")]), ("two", [("", "1"), ("a", "1")])):
            yield f"payload of {format}: {name}", cbor2.dumps(sealed(cbor2.dumps(full(fields, format=format)), fields))

    good = sealed(cbor2.dumps(full()))
    raw, fields, seed, (index, count, proof, signature), path = good
    yield "path empty", cbor2.dumps(with_path([]))
    yield "path of 32", cbor2.dumps(with_path(["cert-py"] * 32))
    yield "path of 33", cbor2.dumps(with_path(["cert-py"] * 33))
    yield "path from another", cbor2.dumps(with_path(["cert-ee"]))
    yield "path of a number", cbor2.dumps(with_path([1]))
    yield "path null", cbor2.dumps(with_path(None))
    # The parts of an envelope, written in other ways.
    d, seal_ = cbor2.dumps, cbor2.dumps([index, count, proof, signature])
    joined = lambda *parts: b"\x85" + b"".join(parts)
    two = [d(field) for field in fields]
    yield "envelope indefinite", indefinite(4, *(d(part) for part in good))
    yield "seal indefinite", joined(d(raw), d(fields), d(seed), indefinite(4, *(d(x) for x in good[3])), d(path))
    yield "fields indefinite", joined(d(raw), indefinite(4, *two), d(seed), seal_, d(path))
    one = indefinite(4, d(fields[0][0]), d(fields[0][1]))
    yield "field indefinite", joined(d(raw), b"\x82" + one + two[1], d(seed), seal_, d(path))
    yield "proof indefinite", joined(d(raw), d(fields), d(seed), b"\x84\x00\x01\x9f\xff" + d(signature), d(path))
    yield "path indefinite", joined(d(raw), d(fields), d(seed), seal_, indefinite(4, d("cert-py")))
    yield "seed undefined", joined(d(raw), d(fields), b"\xf7", seal_, d(path))
    yield "seed false", joined(d(raw), d(fields), b"\xf4", seal_, d(path))
    yield "tagged", b"\xd9\xd9\xf7" + d(good)
    yield "header tagged", joined(b"\xd8\x18" + d(raw), d(fields), d(seed), seal_, d(path))
    yield "header in pieces", joined(indefinite(2, d(raw[:5]), d(raw[5:])), d(fields), d(seed), seal_, d(path))
    yield "header as text", joined(b"\x60", d(fields), d(seed), seal_, d(path))
    yield "header length longer", joined(b"\x5b" + len(raw).to_bytes(8, "big") + raw, d(fields), d(seed), seal_, d(path))
    yield "array length longer", b"\x98\x05" + d(good)[1:]
    yield "seal length longer", joined(d(raw), d(fields), d(seed), b"\x98\x04" + seal_[1:], d(path))
    yield "index longer", joined(d(raw), d(fields), d(seed), b"\x84\x18\x00\x01\x80" + d(signature), d(path))
    yield "index of 64 bits", d([raw, fields, seed, [2**64 - 1, 1, [], signature], path])
    yield "count of 33 bits", d([raw, fields, seed, [0, 2**32 + 1, [], signature], path])
    yield "seal as map", joined(d(raw), d(fields), d(seed), d(dict(enumerate(good[3]))), d(path))
    yield "field as map", joined(d(raw), b"\x82" + d({0: fields[0][0], 1: fields[0][1]}) + two[1], d(seed), seal_, d(path))
    yield "fields as map", joined(d(raw), d({0: fields[0], 1: fields[1]}), d(seed), seal_, d(path))
    yield "value as bytes", joined(d(raw), d([[fields[0][0], fields[0][1].encode()], fields[1]]), d(seed), seal_, d(path))
    yield "value as number", joined(d(raw), d([[fields[0][0], 1], fields[1]]), d(seed), seal_, d(path))
    yield "key as bytes", joined(d(raw), d([[fields[0][0].encode(), fields[0][1]], fields[1]]), d(seed), seal_, d(path))
    yield "path name as bytes", d(with_path([b"cert-py"]))
    yield "digest as text", joined(d(raw), d(["d" * 32, fields[1]]), d(seed), seal_, d(path))
    yield "seed as list", joined(d(raw), d(fields), d(list(SEED)), seal_, d(path))
    yield "field null", joined(d(raw), d([None, fields[1]]), d(seed), seal_, d(path))
    yield "field with a null salt", joined(d(raw), d([fields[0] + [None], fields[1]]), d(seed), seal_, d(path))
    yield "an array of very many", b"\x85" + d(raw) + b"\x9b" + b"\xff" * 8
    yield "bytes of very many", b"\x85\x5b" + b"\xff" * 8
    yield "very deep", b"\x81" * 500_000
    # A hidden field's digest may be any 32 bytes; salts where a field is hidden, and the same key twice by hiding one.
    yield "hidden", d(hide(good, ["raw"]))
    twice = [("a", "1"), ("a", "2")]
    yield "same key, one hidden", d(hide(sealed(d(full(twice)), twice), [])[:1] + [
        [["a", "1", salt_of(SEED, 0)], digest_of("a", "2", salt_of(SEED, 1))], None, *sealed(d(full(twice)), twice)[3:]
    ])
    none = [("a", "1")]
    yield "nothing hidden, with salts", d(hide(sealed(d(full(none)), none), []))
    yield "no fields and no seed", d(sealed(d(full([])), [])[:2] + [None] + sealed(d(full([])), [])[3:])
    batch = seal(KEY, [(header(n), FIELDS, SEED) for n in range(7)])
    for place, envelope in enumerate(batch):
        yield f"{place} of seven", d(envelope)
        yield f"{place} of seven, said to be another", d(envelope[:3] + [[(place + 1) % 7, *envelope[3][1:]], envelope[4]])
    for bytes_more in (0, 1):
        rest = len(d(sealed(d(full([0])), [("a", '"' + "a" * 70_000 + '"')]))) - 70_000
        value = '"' + "a" * (MIB - rest + bytes_more) + '"'
        yield f"of 1 MiB and {bytes_more}", d(sealed(d(full([0])), [("a", value)]))


def content_ids():
    from formats import content_id

    lists = {
        "raw and observation left out": [("raw", '"1"'), ("time.observation", '"2"'), ("a", "1")],
        "order of values": [("b", "1"), ("a", "2"), ("aa", "0")],
        "nothing that counts": [("raw", '"1"')],
        "feed": [("feed.name", '"1"'), ("feed.url", '"2"'), ("a", "1")],
    }
    for name, fields in lists.items():
        for without in ([], ["feed.name"], ["feed.name", "feed.name"], ["feed.other"]):
            raw = cbor2.dumps(full(fields, content=without, id=content_id(fields, without).bytes))
            yield f"content id: {name}, without {without}", cbor2.dumps(sealed(raw, fields))
            raw = cbor2.dumps(full(fields, content=without))
            yield f"no content id: {name}, without {without}", cbor2.dumps(sealed(raw, fields))
            yield f"unchecked: {name}, without {without}", cbor2.dumps(hide(sealed(raw, fields), [fields[0][0]]))


# ---- Keys and signatures ---------------------------------------------------------------------------------------------


def plus(a, b):
    (x, y), (u, v) = a, b
    t = D * x * u * y * v % P
    return (x * v + y * u) * pow(1 + t, -1, P) % P, (y * v + x * u) * pow(1 - t, -1, P) % P


def times(number, point):
    found = (0, 1)
    while number:
        if number & 1:
            found = plus(found, point)
        point, number = plus(point, point), number >> 1
    return found


def point_of(encoded):
    y = int.from_bytes(encoded, "little") % 2**255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (P - x if x % 2 != encoded[31] >> 7 else x), y


def encode(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


BASE = point_of((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
EIGHT = point_of(SMALL)
SECRET, NONCE = 0x1234567, 0x7654321


def signatures():
    """(name, key, how it signs): S and R by the equation of RFC 8032, with torsion where no honest signer has any."""
    import hashlib

    def signer(key, r, nonce=NONCE, secret=SECRET, more=0):
        def sign(message):
            k = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little")
            return r + ((nonce + k * secret) % L + more * L).to_bytes(32, "little")

        return sign

    a, r = times(SECRET, BASE), times(NONCE, BASE)
    honest, plain = encode(a), encode(r)
    yield "honest", honest, signer(honest, plain)
    yield "S plus L", honest, signer(honest, plain, more=1)
    yield "R the neutral point", honest, signer(honest, encode((0, 1)), nonce=0)
    yield "R the neutral point, not canonical", honest, signer(honest, (P + 1).to_bytes(32, "little"), nonce=0)
    yield "R the neutral point, other sign", honest, signer(honest, (1 | 1 << 255).to_bytes(32, "little"), nonce=0)
    yield "R with torsion", honest, signer(honest, encode(plus(r, EIGHT)))
    for order in range(8):
        mixed = encode(plus(a, times(order, EIGHT)))
        yield f"key with {order} eighths of torsion", mixed, signer(mixed, plain)
        for of_r in range(1, 8):
            yield f"key with {order} eighths and R with {of_r}", mixed, signer(mixed, encode(plus(r, times(of_r, EIGHT))))
        small = encode(times(order, EIGHT))
        yield f"key of {order} eighths", small, signer(small, plain, secret=0)
    for y in range(19):
        for sign in (0, 1):
            key = (P + y | sign << 255).to_bytes(32, "little")
            yield f"key p + {y}, sign {sign}", key, signer(key, plain, secret=0)


def by_signature():
    for name, key, sign in signatures():
        yield "signature: " + name, "envelope", cbor2.dumps(sealed(cbor2.dumps(full(key=key)), sign=sign))


# ---- Rosters ---------------------------------------------------------------------------------------------------------

AUTHORITIES = [key_of(number) for number in (1, 2, 3)]  # those of the vectors


def signed(raw, keys=AUTHORITIES[:2], foreign=()):
    pairs = [[public(key), key.sign(ROSTER + raw)] for key in keys]
    return cbor2.dumps([raw, pairs + list(foreign)])


def content(**more):
    member = {"name": "cert-py", "keys": [{"key": public(KEY)}]}
    always = {"v": 1, "network": "certs", "number": 1, "issued": 0, "authorities": [public(key) for key in AUTHORITIES]}
    return always | {"threshold": 2, "members": [member]} | more


def member(key={}, **more):
    return content(members=[{"name": "cert-py", "keys": [{"key": public(KEY)} | key]} | more])


def many_keys(count, name="a"):
    return {"name": name, "keys": [{"key": public(key_of(number))} for number in range(50, 50 + count)]}


def rosters():
    assert configured() == ([public(key) for key in AUTHORITIES], 2)
    authorities = content()["authorities"]
    a_small, not_canonical, no_point = bytes(32), (P + 1).to_bytes(32, "little"), (2).to_bytes(32, "little")
    changes = {
        "small authority": content(authorities=authorities + [a_small]),
        "authority that is not canonical": content(authorities=authorities + [not_canonical]),
        "authority that is no point": content(authorities=authorities + [no_point]),
        "key that is no point": member(key={"key": no_point}),
        "no authorities": content(authorities=[], threshold=1),
        "32 authorities": content(authorities=authorities + [public(key_of(n)) for n in range(50, 79)]),
        "33 authorities": content(authorities=authorities + [public(key_of(n)) for n in range(50, 80)]),
        "own threshold of 1": content(threshold=1),
        "own threshold of 3": content(threshold=3),
        "authority is a member": content(members=[{"name": "a", "keys": [{"key": authorities[0]}]}]),
        "16 keys": content(members=[many_keys(16)]),
        "17 keys": content(members=[many_keys(17)]),
        "one key twice in a member": content(members=[{"name": "a", "keys": [{"key": public(KEY)}] * 2}]),
        "names equal": content(members=[many_keys(1), {"name": "a", "keys": [{"key": public(KEY)}]}]),
        "empty contact": member(contact=""),
        "contact of 256": member(contact="c" * 256),
        "contact of 257": member(contact="c" * 257),
        "contact of 257 bytes": member(contact="é" * 128 + "c"),
        "contact with C1 control": member(contact="\x85"),
        "contact null": member(contact=None),
        "org short": member(org=bytes(15)),
        "rdns of one label": member(rdns="at"),
        "rdns with empty label": member(rdns="at..cert"),
        "rdns with dot last": member(rdns="at."),
        "rdns of dashes": member(rdns="-.-"),
        "rdns of 256": member(rdns="a." * 127 + "aa"),
        "rdns of 257": member(rdns="a." * 128 + "a"),
        "rdns with a label of 64": member(rdns="a" * 64),
        "rdns with underscore": member(rdns="at._cert"),
        "from 0": member(key={"from": 0}),
        "until 0": member(key={"until": 0}),
        "revoked 0": member(key={"revoked": 0}),
        "from is until": member(key={"from": 5, "until": 5}),
        "from just before until": member(key={"from": 5, "until": 6}),
        "from largest": member(key={"from": 2**64 - 1}),
        "revoked before from": member(key={"from": 5, "revoked": 4}),
        "issued of 64 bits": content(issued=2**64 - 1),
        "number of 64 bits": content(number=2**64 - 1),
        "network with blank": content(network="a b"),
        "network empty": content(network=""),
        "version as text": content(v="1"),
        "encryption with the high bit": member(encryption=b"\x09" + bytes(30) + b"\x80"),
        "encryption p": member(encryption=P.to_bytes(32, "little")),
        "encryption p - 1": member(encryption=(P - 1).to_bytes(32, "little")),
        "encryption 1": member(encryption=(1).to_bytes(32, "little")),
        "encryption 2": member(encryption=(2).to_bytes(32, "little")),
        "encryption of order 8": member(
            encryption=bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
        ),
        "encryption of the other order 8": member(
            encryption=bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157")
        ),
    }
    for name, change in changes.items():
        yield "roster: " + name, signed(cbor2.dumps(change))
    raw = cbor2.dumps(content())
    yield "roster: members indefinite", signed(raw[: raw.index(b"\x81\xa2dname")] + b"\x9f" + raw[raw.index(b"\xa2dname") :] + b"\xff")
    yield "roster: tagged", signed(b"\xd9\xd9\xf7" + raw)
    outer = signed(raw)
    yield "roster: outer array indefinite", b"\x9f" + outer[1:] + b"\xff"
    yield "roster: outer array tagged", b"\xd9\xd9\xf7" + outer
    yield "roster: outer length longer", b"\x98\x02" + outer[1:]
    two = cbor2.loads(outer)[1]
    yield "roster: signatures indefinite", b"\x82" + cbor2.dumps(raw) + indefinite(4, *map(cbor2.dumps, two))
    yield "roster: as text", b"\x82\x60" + cbor2.dumps(two)
    yield "roster: signature as map", cbor2.dumps([raw, [{0: key, 1: signature} for key, signature in two]])
    own = content(authorities=content()["authorities"] + [public(key_of(90))])
    nobody = [[public(key_of(90)), bytes(64)]]
    yield "roster: bad signature of an authority of its own", signed(cbor2.dumps(own), foreign=nobody)
    yield "roster: bad signature of a stranger", signed(raw, foreign=nobody)
    yield "roster: a stranger twice", signed(raw, foreign=nobody * 2)
    for key in (a_small, not_canonical, no_point):
        yield f"roster: a stranger's key is {key.hex()}", signed(raw, foreign=[[key, bytes(64)]])
    for count in (30, 31):
        strangers = [[public(key_of(100 + n)), bytes(64)] for n in range(count)]
        known = cbor2.dumps(content(authorities=authorities + [key for key, _ in strangers[:29]]))
        yield f"roster: {count} signatures, all known", signed(known, foreign=strangers[: count - 2])
        yield f"roster: {count + 2} signatures", signed(raw, foreign=strangers)
    one_key = lambda n: {"key": public(key_of(n))}
    yield "roster: no member, and one authority less", signed(cbor2.dumps(content(authorities=authorities[:2], members=[])))
    yield "roster: an authority signs that it does not name", signed(cbor2.dumps(content(authorities=authorities[:2])), AUTHORITIES)
    yield "roster: signature with S plus L", cbor2.dumps(
        [raw := cbor2.dumps(content()), [[two[0][0], plus_l(two[0][1])], two[1]]]
    )
    yield "roster: bad content and two of one key", signed(cbor2.dumps({"v": 1}), AUTHORITIES[:1] * 2)
    yield "roster: larger than 1 MiB", signed(cbor2.dumps(content(members=[
        {"name": f"a{n:05}", "keys": [one_key(1)], "contact": "c" * 256} for n in range(4000)
    ])))


def successions():
    """(name, a roster, the one that it would take the place of)."""
    one, two, other = content(number=1), content(number=2), content(number=2, issued=1)
    cases = {
        "higher": (two, one),
        "much higher": (content(number=2**64 - 1), one),
        "lower": (one, two),
        "same": (two, two),
        "same number, other bytes": (two, other),
        "of another network, higher": (content(network="banks", number=9), one),
        "of another network, same": (content(network="banks", number=1), one),
    }
    for name, (new, old) in cases.items():
        yield f"roster: {name}", signed(cbor2.dumps(new)), signed(cbor2.dumps(old))
    yield "roster: same, by others", signed(cbor2.dumps(one), AUTHORITIES[1:]), signed(cbor2.dumps(one))


def plus_l(signature):
    return signature[:32] + (int.from_bytes(signature[32:], "little") + L).to_bytes(32, "little")


# ---- Frames ----------------------------------------------------------------------------------------------------------


def frame(kind, says):
    body = bytes([kind]) + (says if isinstance(says, bytes) else cbor2.dumps(says))
    length, varint = len(body), b""
    while length >= 0x80:
        varint, length = varint + bytes([length & 0x7F | 0x80]), length >> 7
    return varint + bytes([length]) + body


def frames():
    hello = {"node": "a", "software": "s", "log": bytes(16), "envelope_bytes": 1, "frame_bytes": 1}
    batch = {"no": 1, "offers": [], "whole": b"", "token": b""}
    done = {"no": 1, "verdicts": [], "mode": "offer"}
    offer = [0, "a", bytes(16), 1, 0]
    says = {
        "test true": (0, hello | {"test": True}),
        "test false": (0, hello | {"test": False}),
        "test null": (0, hello | {"test": None}),
        "test a number": (0, hello | {"test": 1}),
        "software empty": (0, hello | {"software": ""}),
        "software long": (0, hello | {"software": "s" * 2000}),
        "software with line end": (0, hello | {"software": "a\nb"}),
        "limits of 64 bits": (0, hello | {"envelope_bytes": 2**64 - 1}),
        "hello in other order": (0, dict(reversed(hello.items()))),
        "hello indefinite": (0, indefinite(5, *(pair(k, v) for k, v in hello.items()))),
        "hello tagged": (0, b"\xc1" + cbor2.dumps(hello)),
        "hello as array": (0, list(hello.values())),
        "refuse empty": (2, ""),
        "refuse bytes": (2, cbor2.dumps(b"no")),
        "refuse long": (2, "n" * 5000),
        "pull null": (3, None),
        "pull time of 64 bits": (3, {"time": 2**64 - 1}),
        "pull time negative": (3, {"time": -1}),
        "pull of two": (3, {"time": 1, "token": b""}),
        "pull of none": (3, {}),
        "pull now as map": (3, {"now": None}),
        "pull token empty": (3, {"token": b""}),
        "pull token of 1024": (3, {"token": bytes(1024)}),
        "pull token of 1025": (3, {"token": bytes(1025)}),
        "pull indefinite": (3, indefinite(5, pair("time", 1))),
        "batch token of 1025": (4, batch | {"token": bytes(1025)}),
        "batch number 0": (4, batch | {"no": 0}),
        "batch number of 64 bits": (4, batch | {"no": 2**64 - 1}),
        "batch number of 32 bits": (4, batch | {"no": 2**32}),
        "batch slot 511": (4, batch | {"offers": [[511, *offer[1:]]]}),
        "batch slot 512": (4, batch | {"offers": [[512, *offer[1:]]]}),
        "batch slot twice": (4, batch | {"offers": [offer, offer]}),
        "batch of 512": (4, batch | {"offers": [[n, *offer[1:]] for n in range(512)]}),
        "batch of 513": (4, batch | {"offers": [offer] * 513}),
        "batch offer of six": (4, batch | {"offers": [[*offer, None]]}),
        "batch offer of size 0": (4, batch | {"offers": [[0, "a", bytes(16), 0, 0]]}),
        "batch offer of size 33 bits": (4, batch | {"offers": [[0, "a", bytes(16), 2**32, 0]]}),
        "batch offer with 4097 hidden": (4, batch | {"offers": [[0, "a", bytes(16), 1, 4097]]}),
        "batch offer with hidden 33 bits": (4, batch | {"offers": [[0, "a", bytes(16), 1, 2**32]]}),
        "batch offer of illegal name": (4, batch | {"offers": [[0, "A", bytes(16), 1, 0]]}),
        "batch offers indefinite": (4, batch | {"offers": []} if False else indefinite(5, *(
            pair(k, v) if k != "offers" else cbor2.dumps(k) + indefinite(4, indefinite(4, *map(cbor2.dumps, offer)))
            for k, v in batch.items()))),
        "batch whole that is no zstd": (4, batch | {"whole": b"x"}),
        "want refused": (5, {"no": 1, "answers": [[0, {"refuse": "loop"}]]}),
        "want refused for a reason": (5, {"no": 1, "answers": [[0, {"refuse": {"refused": ""}}]]}),
        "want refused of two": (5, {"no": 1, "answers": [[0, {"refuse": "loop", "want": None}]]}),
        "want refused alone": (5, {"no": 1, "answers": [[0, "refuse"]]}),
        "want as map": (5, {"no": 1, "answers": [[0, {"want": None}]]}),
        "want slot 512": (5, {"no": 1, "answers": [[512, "want"]]}),
        "want empty": (5, {"no": 1, "answers": []}),
        "want of 513": (5, {"no": 1, "answers": [[0, "want"]] * 513}),
        "done of 513": (7, done | {"verdicts": ["later"] * 513}),
        "done with long reason": (7, done | {"verdicts": [{"refused": "r" * 5000}]}),
        "done with accepted as map": (7, done | {"verdicts": [{"accepted": None}]}),
        "done in mode all": (7, done | {"mode": "all"}),
        "beat without token": (8, {}),
        "beat with null token": (8, {"token": None}),
        "have 0 with network": (9, {"number": 0, "network": "a"}),
        "have 0 with both": (9, {"number": 0, "network": "a", "digest": bytes(32)}),
        "have 1 alone": (9, {"number": 1}),
        "have 1 without digest": (9, {"number": 1, "network": "a"}),
        "have 1 with null network": (9, {"number": 1, "network": None, "digest": bytes(32)}),
        "have 1 with short digest": (9, {"number": 1, "network": "a", "digest": bytes(31)}),
        "have 1 with illegal name": (9, {"number": 1, "network": "A", "digest": bytes(32)}),
        "roster empty": (10, b"\x40"),
        "roster as array": (10, [b"", []]),
        "roster in pieces": (10, indefinite(2, b"\x41a", b"\x41b")),
        "kind 255": (255, None),
        "no CBOR": (8, b""),
        "very deep": (8, b"\x81" * 100_000),
    }
    says |= {"verdict " + word: (7, done | {"verdicts": [word]}) for word in formats.VERDICTS + ("refused", "Loop")}
    for name, (kind, what) in says.items():
        yield "frame: " + name, frame(kind, what)
    yield "frame: none", b""
    yield "frame: two", frame(2, "a") + frame(2, "b")
    yield "frame: length of 4 MiB, cut", b"\x80\x80\x80\x02"
    for size in range(1, 12):
        yield f"frame: varint of {size}", b"\x80" * (size - 1) + b"\x01" + b"\x02"
        yield f"frame: varint of {size}, full", b"\xff" * (size - 1) + b"\x7f"
        yield f"frame: varint of {size}, open", b"\x80" * size


# ---- By chance -------------------------------------------------------------------------------------------------------


def changed(chance, data, limit=None):
    """One byte at a time: another in its place, gone, or one more."""
    for place in range(len(data)):
        other = bytes([data[place] ^ chance.randrange(1, 256)])
        yield place, chance.choice(
            [data[:place] + other + data[place + 1 :]] * 4 + [data[:place] + data[place + 1 :], data[:place] + other + data[place:]]
        )


RICH_JSON = r'{"a": [1, -2.5e+3, NaN, -Infinity, true, false, null, "é\n\ud800\u00e9 \"\\"], "b": {"c": {}, "d": []}} '


def by_chance(chance):
    rich = full(tlp="AMBER+STRICT", to=["a", "b"], tags=["t", "é"], org=bytes(16), content=["feed.url"])
    rich |= {"links": {"parent": "p", "group": ["g"], "replaces": bytes(16)}, "ext": {"b:c": "-0.5", "x-a": '{"a": [1]}'}}
    raw = in_form(rich)
    given = cbor2.dumps(content(members=[
        {"name": "a", "keys": [{"key": public(key_of(50)), "from": 5, "until": 300, "revoked": 0}, {"key": public(KEY)}],
         "org": bytes(16), "rdns": "at.cert", "contact": "é", "encryption": b"\x09" + bytes(31)},
        {"name": "b", "keys": [{"key": public(key_of(51))}]},
    ]))
    for turn in range(2):
        for place, other in changed(chance, raw):
            # Some of a content id's envelope hidden, so that the id need not be right.
            yield f"header of which byte {place} is another: {other.hex()}", "envelope", cbor2.dumps(hide(sealed(other), ["raw"]))
        for place, other in changed(chance, given):
            yield f"roster of which byte {place} is another", "roster", signed(other)
    alphabet = '0123456789.eE+-"\\/[]{}:, \n\t\0naNIfulrtsé\ud800\x7f'
    for turn in range(2000):
        value = list(RICH_JSON) if turn % 2 else list(chance.choice(list(json_values().values()))[:40])
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(value) + 1)
            value[place : place + chance.randrange(2)] = chance.choice(["", chance.choice(alphabet)])
        value = "".join(value).replace("\ud800", r"\ud800")
        yield f"value {value!r}", "envelope", cbor2.dumps(sealed(cbor2.dumps(full([0])), [("a", value)]))
    good = [(vector["name"], kind, bytes.fromhex(vector[kind])) for file, kind in
            (("envelope", "envelope"), ("roster", "roster"), ("frames", "frame"))
            for vector in vectors(file) if vector["expect"] == "ok"]
    good += [(name, kind, data) for name, kind, data, more in made() if not more]
    for name, kind, data in good:
        for place, other in changed(chance, data):
            yield f"{name}, of which byte {place} is another", kind, other


def probes(seed):
    chance = random.Random(seed)
    for name, data in [*envelopes(), *content_ids()]:
        yield name, "envelope", data
    yield from by_signature()
    for name, data in rosters():
        yield name, "roster", data
    for name, data in frames():
        yield name, "frame", data
    yield from by_chance(chance)


if __name__ == "__main__":
    for name, kind, data in probes(sys.argv[1]):
        print(json.dumps({"name": name, "kind": kind, "hex": data.hex()}))
    for name, data, before in successions():
        print(json.dumps({"name": name, "kind": "roster", "hex": data.hex(), "before": before.hex()}))
