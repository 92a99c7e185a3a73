#!/usr/bin/env python3
"""Of the second implementation (verify.py): as probes.py, for attested hops, encrypted payloads, notices and joining.

Prints {"name", "kind", "hex"} on each line, of an encrypted envelope with "recipient" and "seed" of who opens it.
"""

import base64
import json
import random
import sys

import cbor2
import encrypted
import formats
import joining
from probes import KEY, P, SEED, changed, frame, full, indefinite, pair, plus_l, sealed, signatures
from verify import HOST, TICKET, attest, header, hide, key_of, made, notice, public, seal, seal_encrypted, sign_notice
from verify import vectors

d = cbor2.dumps
NOT_KEYS = {"small": bytes(32), "not canonical": (P + 1).to_bytes(32, "little"), "no point": (2).to_bytes(32, "little")}
NOT_X25519 = {"0": bytes(32), "1": b"\x01" + bytes(31), "p": P.to_bytes(32, "little"), "high bit": b"\x09" + bytes(30) + b"\x80"}
X25519 = b"\x09" + bytes(31)


class Signer:
    """A key that signs as `signatures` of probes.py say."""

    def __init__(self, encoded, sign):
        self.encoded, self.sign = encoded, sign

    def public_key(self):
        return self

    def public_bytes_raw(self):
        return self.encoded


def forms(good):
    """The same map, in forms that are not the one."""
    pairs = [pair(key, value) for key, value in good.items()]
    yield "indefinite", indefinite(5, *pairs)
    yield "in another order", bytes([0xA0 | len(pairs)]) + b"".join(reversed(pairs))
    yield "with a longer length", bytes([0xB8, len(pairs)]) + b"".join(pairs)
    yield "tagged", b"\xd9\xd9\xf7" + d(good)
    yield "as a list", d(list(good.values()))
    yield "as a list of pairs", d([list(one) for one in good.items()])
    yield "with numbers for keys", d(dict(enumerate(good.values())))
    yield "with keys in bytes", d({key.encode(): value for key, value in good.items()})
    yield "with a byte behind", d(good) + b"\x00"
    yield "with an unknown key", d(good | {"zz": None})
    yield "with a key twice", bytes([0xA0 | len(pairs) + 1]) + b"".join(pairs) + pairs[-1]
    yield "with null", d({key: None if key == list(good)[-1] else value for key, value in good.items()})
    for key in good:
        yield f"without {key}", d({other: value for other, value in good.items() if other != key})


# ---- §1.5 attested hops ----------------------------------------------------------------------------------------------


def hops():
    good = sealed(d(full()))
    ee = key_of(22)
    with_path = lambda *path: d(good[:4] + [["cert-py", *path]])
    _, key, time, place = hop = attest(ee, good, "cert-ee", 5)[4][1]
    index, count, proof, signature = place
    for others, at in ((0, 0), (1, 0), (1, 1), (2, 2), (511, 0), (511, 511), (1023, 700), (1024, 700)):
        yield f"{at} of {others + 1}", d(attest(ee, good, "cert-ee", 5, others, at))
    for time_ in (0, 2**32, 2**63, 2**64 - 1):
        yield f"time {time_}", d(attest(ee, good, "cert-ee", time_))
    for name in ("cert-py", "a" * 63, "a" * 64, "A", "-", ""):
        yield f"name {name!r}", d(attest(ee, good, name, 5))
    long = good
    for number in range(32):
        long = attest(ee, long, f"n{number}", number, others=2, place=number % 3)
        if number > 29:
            yield f"{number + 1} of them", d(long)
    for name, encoded, sign in signatures():
        yield f"signature: {name}", d(attest(Signer(encoded, sign), good, "cert-ee", 5, others=0, place=0))
    for name, encoded in NOT_KEYS.items():
        yield f"key {name}", with_path(["cert-ee", encoded, time, place])
    yield "signed as a seal", d(attest(ee, good, "cert-ee", 5, domain=formats.SEAL))
    yield "of some hidden", d(attest(ee, hide(good, ["raw"]), "cert-ee", 5))
    yield "S plus L", with_path(["cert-ee", key, time, [index, count, proof, plus_l(signature)]])
    yield "of the origin alone", d(good[:4] + [[hop]])
    yield "the same twice", with_path(hop, hop)
    yield "behind a claim", with_path("cert-ee", hop)
    yield "before an illegal claim", with_path(hop, "A")
    wrong = {
        "index is count": [count, count, proof, signature],
        "index of 64 bits": [2**64 - 1, count, proof, signature],
        "count 0": [0, 0, [], signature],
        "count of 33 bits": [index, 2**32 + count, proof, signature],
        "a hash less": [index, count, proof[1:], signature],
        "a hash more": [index, count, proof + proof[:1], signature],
        "a long hash": [index, count, proof[1:] + [bytes(33)], signature],
        "no hashes": [index, count, [], signature],
        "count 300": [index, 300, proof, signature],
        "count 1024, a hash more": [index, 1024, proof + proof[:1], signature],
        "long signature": [index, count, proof, signature + b"\x00"],
        "empty signature": [index, count, proof, b""],
        "null signature": [index, count, proof, None],
        "of three": [index, count, proof],
        "of five": [index, count, proof, signature, None],
        "null": None,
    }
    for name, other in wrong.items():
        yield f"place {name}", with_path(["cert-ee", key, time, other])
    wrong = {
        "name as bytes": [b"cert-ee", key, time, place],
        "name null": [None, key, time, place],
        "key as text": ["cert-ee", "k" * 32, time, place],
        "key null": ["cert-ee", None, time, place],
        "time a float": ["cert-ee", key, 5.0, place],
        "time negative": ["cert-ee", key, -1, place],
        "time of 65 bits": ["cert-ee", key, 2**64, place],
        "time null": ["cert-ee", key, None, place],
        "alone": ["cert-ee"],
        "empty": [],
        "as map": dict(enumerate(hop)),
        "as bytes": b"cert-ee",
        "null": None,
    }
    for name, other in wrong.items():
        yield f"hop {name}", with_path(other)
    start = d(good[:4] + [[]])[:-1] + b"\x82" + d("cert-py")
    parts = [d(part) for part in hop]
    yield "hop indefinite", start + indefinite(4, *parts)
    yield "hop with a longer length", start + b"\x98\x04" + b"".join(parts)
    yield "time longer", start + b"\x84" + parts[0] + parts[1] + b"\x18\x05" + parts[3]
    yield "place indefinite", start + b"\x84" + b"".join(parts[:3]) + indefinite(4, *map(d, place))
    yield "hop tagged", start + b"\xc1" + b"\x84" + b"".join(parts)


# ---- §1.6 encrypted payloads -----------------------------------------------------------------------------------------

TO = [("cert-ee", b"\x02" * 32), ("cert-pl", b"\x03" * 32)]


def carried():
    """Envelopes with `keys` as everybody sees them: (name, bytes)."""
    value = f'"{base64.b64encode(bytes(1040)).decode()}"'
    both = {"to": ["cert-ee", "cert-pl"], "keys": [bytes(80), bytes(80)]}
    made = lambda fields=[("", value)], **more: d(sealed(d(full(fields, **both | more)), fields))
    yield "good", made()
    yield "keys for one", made(keys=[bytes(80)])
    yield "keys for three", made(keys=[bytes(80)] * 3)
    yield "no keys", made(keys=[])
    yield "null keys", made(keys=None)
    yield "key of 79", made(keys=[bytes(80), bytes(79)])
    yield "key as text", made(keys=["k" * 80] * 2)
    for count in (1, 256, 257):
        yield f"to {count}", made(to=[f"n{n}" for n in range(count)], keys=[bytes(80)] * count)
    yield "to itself", made(to=["cert-py", "cert-ee"])
    for label in ("CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED"):
        yield f"tlp {label}", made(tlp=label)
    for kind in ("report", "withdrawal"):
        yield kind, made(type=kind)
        yield f"{kind} that withdraws", made(type=kind, links={"withdraws": bytes(16)})
    yield "that withdraws", made(links={"withdraws": bytes(16)})
    yield "that withdraws and more", made(links={"parent": "p", "withdraws": bytes(16)})
    told = {"org": bytes(16), "instance": bytes(16), "tags": ["t"], "ext": {"x-a": "1"}, "content": [], "tlp": "RED"}
    for key in told:
        yield f"with {key}", made(**{key: told[key]})
    for key in ("parent", "related", "replaces"):
        yield f"with {key}", made(links={key: {"parent": "", "related": ["r"], "replaces": bytes(16)}[key]})
    for format in ("", "n6", "idea"):
        yield f"of format {format!r}", made(format=format)
    good = sealed(d(full([("", value)], **both)), [("", value)])
    yield "hidden", d(hide(good, [""]))
    yield "with its salt", d(hide(good, []))
    yield "of format n6, hidden", d(hide(sealed(d(full([("", value)], **both, format="n6")), [("", value)]), [""]))
    values = {"empty": '""', "blank before": ' "AAAA"', "blank behind": '"AAAA" ', "line end within": '"AA\nAA"',
              "blank within": '"AA AA"', "escape": r'"AA\/A"', "escape of a letter": r'"\u0041AAA"', "no padding": '"AAA"',
              "padding alone": '"===="', "one padding": '"AAA="', "two paddings": '"AA=="', "three paddings": '"A==="',
              "bits left": '"AAB="', "four bits left": '"AB=="', "padding within": '"AA==AAAA"', "URL safe": '"-_AA"',
              "plus and slash": '"+/AA"', "number": "1", "object": "{}", "array": '["AAAA"]', "null": "null",
              "not JSON": "AAAA", "open": '"AAAA', "quote alone": '"', "nothing": "", "not ASCII": '"éAAA"',
              "two": '"AAAA""AAAA"'}
    for name, value in values.items():
        yield f"value {name}", made([("", value)])
    yield "two fields", made([("", '"AAAA"'), ("a", "1")])
    yield "no field", made([])
    yield "a name", made([("a", '"AAAA"')])


def inners():
    """(name, what is encrypted)."""
    good = {"org": bytes(16), "tags": ["t"], "links": {"parent": "p"}, "ext": {"x-a": "1"}, "fields": [["a", "1"]]}
    yield "good", d(good)
    for name, raw in forms(good):
        yield name, raw
    changes = {
        "instance": {"instance": bytes(16)},
        "org short": {"org": bytes(15)},
        "org as text": {"org": "72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b"},
        "null org": {"org": None},
        "empty tags": {"tags": []},
        "256 tags": {"tags": ["t"] * 256},
        "257 tags": {"tags": ["t"] * 257},
        "long tag": {"tags": ["t" * 1024]},
        "too long tag": {"tags": ["t" * 1025]},
        "tag with line end": {"tags": ["a\nb"]},
        "empty links": {"links": {}},
        "links in another order": {"links": {"group": ["g"], "related": ["r"]}},
        "unknown link": {"links": {"parents": "p"}},
        "replaces": {"links": {"replaces": bytes(16)}},
        "withdraws": {"links": {"withdraws": bytes(16)}},
        "null parent": {"links": {"parent": None}},
        "empty ext": {"ext": {}},
        "ext out of order": {"ext": {"x-b": "1", "x-a": "1"}},
        "ext of a plain name": {"ext": {"a": "1"}},
        "ext not JSON": {"ext": {"x-a": "{"}},
        "257 ext": {"ext": {f"x-{n:03}": "1" for n in range(257)}},
        "no fields": {"fields": []},
        "null fields": {"fields": None},
        "fields as map": {"fields": {"a": "1"}},
        "field of one": {"fields": [["a"]]},
        "field with a salt": {"fields": [["a", "1", bytes(16)]]},
        "field hidden": {"fields": [bytes(32)]},
        "field as map": {"fields": [{"a": "1"}]},
        "key as bytes": {"fields": [[b"a", "1"]]},
        "value as number": {"fields": [["a", 1]]},
        "value not JSON": {"fields": [["a", "{"]]},
        "value 128 deep": {"fields": [["a", "[" * 128 + "]" * 128]]},
        "value 129 deep": {"fields": [["a", "[" * 129 + "]" * 129]]},
        "key twice": {"fields": [["a", "1"], ["a", "2"]]},
        "key empty": {"fields": [["", "1"]]},
        "key empty, and another": {"fields": [["", "1"], ["a", "1"]]},
        "key with line end": {"fields": [["a\n", "1"]]},
        "4096 fields": {"fields": [[str(n), "1"] for n in range(4096)]},
        "4097 fields": {"fields": [[str(n), "1"] for n in range(4097)]},
        "tlp": {"tlp": "RED"},
        "content": {"content": []},
        "v": {"v": 1},
        "n": {"n": 1},
    }
    for name, change in changes.items():
        there = good | change
        order = [*encrypted.INNER, *(there.keys() - encrypted.INNER.keys())]
        yield name, d({key: there[key] for key in order if key in there})
    yield "nothing but fields", d({"fields": [["a", "1"]]})
    yield "empty", b""
    yield "null", d(None)
    yield "very deep", b"\x81" * 100_000
    yield "fields indefinite", b"\xa1" + d("fields") + indefinite(4, d(["a", "1"]))
    yield "value in pieces", b"\xa1" + d("fields") + b"\x81\x82" + d("a") + indefinite(3, d('"a'), d('"'))
    for size in (1019, 1020, 1021, 1276, 1277, 2044, 2045, 2556, 2557, 4092, 4093, 65532, 65533, 500_000):
        empty = d({"fields": [["a", '"' + "a" * size + '"']]})
        value = '"' + "a" * (size - (len(empty) - size)) + '"'
        yield f"of {size}", d({"fields": [["a", value]]})


def plains():
    """(name, plain as it is encrypted): what is around what is in it."""
    inner = d({"fields": [["a", "1"]]})
    good = (formats.u32(len(inner)) + inner).ljust(1024, b"\x00")
    yield "good", good
    for size in (0, 3, 4, len(inner) + 4, 1023, 1025, 1280, 1536, 2048):
        yield f"size {size}", good[:size].ljust(size, b"\x00")
    yield "last byte", good[:-1] + b"\x01"
    yield "first byte of padding", good[: len(inner) + 4] + b"\x01" + good[len(inner) + 5 :]
    for length in (0, len(inner) - 1, len(inner) + 1, 1020, 1021, 2**31, 2**32 - 1):
        yield f"length {length}", formats.u32(length) + good[4:]


def opened():
    """(name, envelope, recipient's name, and seed)."""
    ee = TO[0]
    for name, inner in inners():
        yield f"inner {name}", seal_encrypted(KEY, header(4), inner, TO), *ee
    head = {"key": public(KEY), "to": ["cert-ee"]}
    content_key = b"\x07" * 32
    info = encrypted.RECIPIENT + public(KEY) + header(4)["id"]
    pair = encrypted.encryption_pair(ee[1])
    wrap = lambda key=content_key, info=info, public=pair[1]: encrypted.seal_base(public, info, key, b"\x05" * 32)
    with_ = lambda key, value, head=head, **more: seal(KEY, [(header(4, **more) | head | {"keys": [key]}, [("", value)], SEED)])[0]
    bound = header(4) | head
    for name, plain in plains():
        value = encrypted.sealed_payload(bound, plain, content_key, size=0)
        yield f"plain {name}", with_(wrap(), value), *ee
    inner = d({"fields": [["a", "1"]]})
    _, value = encrypted.encrypt(bound, inner, [], content_key, [])
    slot = wrap()
    slots = {
        "good": slot,
        "of zeros": bytes(80),
        "to another": wrap(public=encrypted.encryption_pair(TO[1][1])[1]),
        "for another id": wrap(info=info[:-1] + b"\x00"),
        "for another domain": wrap(info=encrypted.PAYLOAD + info[len(encrypted.RECIPIENT) :]),
        "with another content key": wrap(key=b"\x08" * 32),
        "with the high bit set": slot[:31] + bytes([slot[31] | 0x80]) + slot[32:],
        "damaged": slot[:-1] + bytes([slot[-1] ^ 1]),
    }
    for name, encoded in NOT_X25519.items():
        slots[f"enc {name}"] = encoded + slot[32:]
    # What an origin can make that writes another name of the same point: the high bit, which X25519 leaves out.
    enc = slot[:31] + bytes([slot[31] | 0x80])
    aead, nonce = encrypted.aead_of(encrypted.agreed(b"\x05" * 32, pair[1]), enc, pair[1], info)
    slots["bound to the high bit"] = enc + aead.encrypt(nonce, content_key, b"")
    # And of a point of small order, where both sides agree on zeros.
    aead, nonce = encrypted.aead_of(bytes(32), bytes(32), pair[1], info)
    slots["of zeros, bound to them"] = bytes(32) + aead.encrypt(nonce, content_key, b"")
    for name, slot in slots.items():
        yield f"slot {name}", with_(slot, value), *ee
    yield "for a name that is not there", with_(wrap(), value), "cert-pl", ee[1]
    yield "with a seed that is another's", with_(wrap(), value), "cert-ee", TO[1][1]
    yield "hidden", hide(with_(wrap(), value), [""]), *ee
    yield "with its salt", hide(with_(wrap(), value), []), *ee
    for name, other in {"short": '"AAAA"', "empty": '""', "of a tag": f'"{base64.b64encode(bytes(16)).decode()}"'}.items():
        yield f"ciphertext {name}", with_(wrap(), other), *ee
    aad = encrypted.sealed_payload(bound | {"id": bytes(16)}, formats.u32(len(inner)) + inner, content_key)
    yield "ciphertext of another id", with_(wrap(), aad), *ee
    for format in ("n6", "intelmq"):
        for name, fields in (("text", [["", '"t"']]), ("object", [["", "{}"]]), ("two", [["", "1"], ["a", "1"]])):
            event = seal_encrypted(KEY, header(5) | {"format": format}, {"fields": fields}, TO)
            yield f"payload of {format}: {name}", event, *ee
    withdraws = {"type": "withdrawal", "links": {"withdraws": bytes(16)}}
    for links in ({}, {"links": {"parent": "p"}}):
        said = links | {"fields": [["reason", '"r"']]}
        yield f"a withdrawal with {links}", seal_encrypted(KEY, header(6) | withdraws, said, TO), *ee
    passed_on = attest(key_of(22), seal_encrypted(KEY, header(4), inner, TO), "cert-ee", 5)
    yield "passed on", passed_on, *ee
    yield "the second of two", seal_encrypted(KEY, header(4), inner, TO), *TO[1]
    many = [(f"n{n}", bytes([n]) * 32) for n in range(256)]
    yield "the last of 256", seal_encrypted(KEY, header(4), inner, many), *many[-1]


# ---- §5 notices ------------------------------------------------------------------------------------------------------


def notices():
    next, time = key_of(31), 2**40
    follows, void = notice(KEY, next=public(next), until=time), notice(KEY, revoked=time)
    by = lambda raw, *keys: d([raw, *(key and key.sign(formats.NOTICE + raw) for key in keys)])
    for name, content, second in (("succession", follows, next), ("revocation", void, None)):
        yield name, sign_notice(content, KEY, second)
        for form, raw in forms(content):
            yield f"{name} {form}", by(raw, KEY, second)
        changes = {
            "v 2": {"v": 2}, "v 0": {"v": 0}, "v of 64 bits": {"v": 2**64 - 1}, "v as text": {"v": "1"}, "v 257": {"v": 257},
            "origin of 64": {"origin": "a" * 64}, "origin empty": {"origin": ""}, "origin of capitals": {"origin": "A"},
            "time 0": {"time": 0}, "time of 64 bits": {"time": 2**64 - 1}, "time negative": {"time": -1},
            "until 0": {"until": 0}, "until of 64 bits": {"until": 2**64 - 1}, "revoked 0": {"revoked": 0},
            "revoked of 64 bits": {"revoked": 2**64 - 1}, "revoked null": {"revoked": None}, "until null": {"until": None},
            "encryption": {"encryption": X25519}, "encryption short": {"encryption": bytes(31)},
            "encryption null": {"encryption": None}, "next null": {"next": None}, "itself": {"next": public(KEY)},
            "next short": {"next": bytes(31)},
        }
        changes |= {f"encryption {what}": {"encryption": key} for what, key in NOT_X25519.items()}
        changes |= {f"next {what}": {"next": key} for what, key in NOT_KEYS.items()}
        changes |= {f"key {what}": {"key": key} for what, key in NOT_KEYS.items()}
        for change, other in changes.items():
            yield f"{name} {change}", sign_notice(content | other, KEY, second)
        raw = d(content)
        signature, second_one = KEY.sign(formats.NOTICE + raw), second and second.sign(formats.NOTICE + raw)
        yield f"{name} S plus L", d([raw, plus_l(signature), second_one])
        yield f"{name} short signature", d([raw, signature[1:], second_one])
        yield f"{name} with a next key's signature", d([raw, signature, next.sign(formats.NOTICE + raw)])
        yield f"{name} without", d([raw, signature, None])
        yield f"{name} undefined", d([raw, signature]).replace(b"\x82", b"\x83", 1) + b"\xf7"
        yield f"{name} of two", d([raw, signature])
        yield f"{name} of four", d([raw, signature, second_one, None])
        yield f"{name} exchanged", d([raw, second_one or bytes(64), signature])
        yield f"{name} outer indefinite", indefinite(4, d(raw), d(signature), d(second_one))
        yield f"{name} outer longer", b"\x98\x03" + d([raw, signature, second_one])[1:]
        yield f"{name} outer tagged", b"\xc1" + d([raw, signature, second_one])
        yield f"{name} in pieces", b"\x83" + indefinite(2, d(raw[:5]), d(raw[5:])) + d(signature) + d(second_one)
        yield f"{name} as text", b"\x83\x60" + d(signature) + d(second_one)
        yield f"{name} as roster", by(raw, KEY, second).replace(d(signature), d(KEY.sign(formats.ROSTER + raw)))
    yield "revocation with next", sign_notice(void | {"next": public(next)}, KEY, next)
    yield "revocation with next and encryption", sign_notice(void | {"next": public(next), "encryption": X25519}, KEY, next)
    for name, encoded, sign in signatures():
        signer = Signer(encoded, sign)
        yield f"signature: {name}", sign_notice(notice(signer, revoked=0), signer)
        yield f"next's signature: {name}", sign_notice(notice(KEY, next=encoded, until=1), KEY, signer)


# ---- §6 joining ------------------------------------------------------------------------------------------------------


def lines():
    good = ["cert-at", public(key_of(1)), ["/ip4/192.0.2.1/tcp/4747"], bytes(16), 2**40, "cert-ee"]
    of = lambda place, value: joining.make_line(*(value if n == place else part for n, part in enumerate(good)))
    yield "good", (line := joining.make_line(*good))
    for name in ("", "A", "a" * 63, "a" * 64, b"a"):
        yield f"host {name!r}", of(0, name)
        yield f"guest {name!r}", of(5, name)
    yield "host is guest", of(0, "cert-ee")
    for name, key in NOT_KEYS.items():
        yield f"key {name}", of(1, key)
    yield "key short", of(1, bytes(31))
    for count in (0, 1, 8, 9):
        yield f"{count} addresses", of(2, ["/dns/a/tcp/1"] * count)
    for text in ("", "/", "a", "/ a", "/a\n", "/é", "/\x7f", "/~", "/" + "a" * 339, "/" + "a" * 340, "/\t", "//"):
        yield f"address {text!r}", of(2, [text])
    yield "8 of 340", of(2, ["/" + "a" * 339] * 8)
    for secret in (bytes(15), bytes(17), "s" * 16, None):
        yield f"secret {secret!r}", of(3, secret)
    for expires in (0, 2**64 - 1, 2**64, -1, 1.0, None):
        yield f"expires {expires}", of(4, expires)
    content = d(good)
    contents = {
        "indefinite": indefinite(4, *map(d, good)),
        "longer": b"\x98\x06" + content[1:],
        "tagged": b"\xc1" + content,
        "with a byte behind": content + b"\x00",
        "of five": d(good[:5]),
        "of seven": d(good + [None]),
        "a map": d(dict(enumerate(good))),
        "empty": b"",
        "addresses indefinite": d(good).replace(d(good[2]), indefinite(4, *map(d, good[2]))),
        "number longer": d(good).replace(d(2**40), d(5)).replace(d(5) + d("cert-ee"), b"\x18\x05" + d("cert-ee")),
    }
    for name, other in contents.items():
        yield f"content {name}", joining.line_of(other)
    for version in (b"", b"\x00", b"\x02", b"\xff"):
        yield f"version {version!r}", joining.line_of(content, version)
    spaces = {"blank": " ", "line end": "\r\n", "tab": "\t", "no-break": "\xa0", "line separator": "\u2028", "NEL": "\x85",
              "form feed": "\f", "vertical tab": "\v", "ideographic": "\u3000", "zero width": "\u200b", "unit separator": "\x1f",
              "file separator": "\x1c", "mark": "\ufeff", "NUL": "\0", "Mongolian": "\u180e", "Ogham": "\u1680"}
    for name, space in spaces.items():
        yield f"{name} within", line[:40] + space + line[40:]
        yield f"{name} in the prefix", line[:5] + space + line[5:]
        yield f"{name} around", space + line + space
    yield "very many blanks", line + " " * 5000
    yield "very many blanks first", " " * 5000 + line
    yield "prefix in capitals", line.upper()[:13] + line[13:]
    yield "prefix alone", line[:13]
    yield "no prefix", line[13:]
    yield "nothing", ""
    for size in range(0, 6):
        yield f"{size} bytes", joining.PREFIX + base64.urlsafe_b64encode(bytes(size)).decode().rstrip("=")
    yield "with padding", line + "=" * (-len(line[13:]) % 4)
    yield "a character more", line + "A"
    yield "a character less", line[:-1]
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for more in range(3):
        there = joining.make_line(*good[:5], "cert-ee" + "e" * more)
        for other in (1, 2, 4, 8):
            yield f"last bits {other} of {len(there) % 4}", there[:-1] + last[last.index(there[-1]) ^ other]
    yield "of plain base64", joining.PREFIX + base64.b64encode(b"\xff" * 30).decode()
    for size in (4096, 4097, 4098, 4100):
        body = b"\x01" + bytes((size - 13) * 3 // 4 - 5)
        yield f"of {size} characters", joining.PREFIX + base64.urlsafe_b64encode(body).decode().rstrip("=")[: size - 13]


REFUSED = (*joining.REFUSALS, "Used", "USED", "other_name", "otherName", "", 0, None, b"used", ["used"])


def messages():
    welcome = {"node": "cert-at", "encryption": X25519, "software": "s"}
    for word in REFUSED:
        yield f"refused {word!r}", d({"refused": word})
        yield f"refused as list {word!r}", d(["refused", word])
    for size in (0, 15, 16, 17):
        yield f"nonce of {size}", d({"nonce": bytes(size)})
    yield "nonce as list", d({"nonce": list(bytes(16))})
    yield "nonce as text", d({"nonce": "n" * 16})
    for content in (b"", b"x", bytes(4000), bytes(4018), bytes(4019), bytes(4020), bytes(4021), bytes(4022), "text", None, [], {}):
        yield f"ask of {str(content)[:8]} {len(content or '')}", d({"ask": [content, bytes(64)]})
    for signature in (bytes(63), bytes(65), "s" * 64, None, list(bytes(64))):
        yield f"ask with {str(signature)[:8]}", d({"ask": [b"", signature]})
    yield "ask of one", d({"ask": [b""]})
    yield "ask of three", d({"ask": [b"", bytes(64), None]})
    yield "ask as map", d({"ask": {"content": b"", "signature": bytes(64)}})
    yield "welcome", d({"welcome": welcome})
    for form, raw in forms(welcome):
        yield f"welcome {form}", b"\xa1" + d("welcome") + raw
    for change in software_and_more():
        yield f"welcome {str(change)[:40]}", d({"welcome": welcome | change})
    for form, raw in forms({"nonce": bytes(16)}):
        yield f"nonce {form}", raw
    for other in ({}, {"nonce": bytes(16), "refused": "used"}, {"Nonce": bytes(16)}, {"none": None}, [], None, "nonce", 1, "refused"):
        yield f"message {str(other)[:40]}", d(other)
    yield "empty", b""
    yield "very deep", b"\x81" * 4096
    yield "very deep within", b"\xa1" + d("nonce") + b"\x81" * 4000


def software_and_more():
    softwares = ("", "s" * 200, "s" * 201, "é" * 100, "é" * 101, "a\nb", "a\x7fb", "a\x85b", "a\x1bb", "a\u2028b", None, b"s")
    yield from ({"software": software} for software in softwares)
    yield from ({"node": name} for name in ("", "A", "a" * 63, "a" * 64, b"a"))
    yield from ({"encryption": key} for key in (*NOT_X25519.values(), bytes(31), "e" * 32, list(X25519)))


def asks():
    guest, host, ticket = key_of(2), public(key_of(HOST)), public(key_of(TICKET))
    good = {"node": "cert-ee", "key": public(guest), "encryption": X25519, "addresses": ["/dns/a/tcp/1"], "software": "s"}
    good |= {"commitment": bytes(32)}
    signed = lambda raw, key=guest: d({"ask": [raw, key.sign(joining.possession(ticket, host, raw))]})
    yield "good", signed(d(good))
    for form, raw in forms(good):
        yield form, signed(raw)
    for change in software_and_more():
        yield str(change)[:40], signed(d(good | change))
    texts = ("", "/", "a", "/ a", "/a\n", "/é", "/\x7f", "/" + "a" * 339, "/" + "a" * 340, b"/a", None)
    for addresses in ([], ["/a"] * 8, ["/a"] * 9, None, "/a", *([text] for text in texts)):
        yield f"addresses {str(addresses)[:40]}", signed(d(good | {"addresses": addresses}))
    for size in (31, 33):
        yield f"commitment of {size}", signed(d(good | {"commitment": bytes(size)}))
    yield "itself", signed(d(good | {"key": host}), key_of(HOST))
    yield "by another", signed(d(good), key_of(3))
    raw = d(good)
    for name, what in (("ticket", (host, host, raw)), ("host", (ticket, ticket, raw)), ("exchanged", (host, ticket, raw))):
        yield f"for another {name}", d({"ask": [raw, guest.sign(joining.possession(*what))]})
    yield "S plus L", d({"ask": [raw, plus_l(guest.sign(joining.possession(ticket, host, raw)))]})
    yield "another message", d({"nonce": bytes(16)})
    for name, key in NOT_KEYS.items():
        yield f"key {name}", signed(d(good | {"key": key}))
    for name, encoded, sign in signatures():
        yield f"signature: {name}", signed(d(good | {"key": encoded}), Signer(encoded, sign))


def frames():
    for count in (0, 1, 64, 512, 513):
        yield f"{count} notices", frame(11, [bytes(5)] * count)
    for size in (0, 1024):
        yield f"notices of {size}", frame(11, [bytes(size)])
    other = {"null": None, "bytes": b"", "texts": ["t"], "nulls": [None], "lists": [[]], "numbers": [list(bytes(5))], "map": {0: b""}}
    for name, says in other.items():
        yield f"notices as {name}", frame(11, d(says))
    yield "notices indefinite", frame(11, indefinite(4, d(b"a")))
    yield "notice in pieces", frame(11, b"\x81" + indefinite(2, d(b"a")))
    yield "notices with a byte behind", frame(11, d([b"a"]) + b"\x00")
    yield "notices tagged", frame(11, b"\xc1" + d([b"a"]))
    yield "notices of a longer length", frame(11, b"\x98\x01" + d(b"a"))
    yield "notices of very many", frame(11, b"\x9b" + b"\xff" * 8)
    yield "kind 12", frame(12, [])


# ---- By chance -------------------------------------------------------------------------------------------------------


def by_chance(chance):
    for vector in vectors("notice") + vectors("encrypted"):
        if vector["expect"] == "ok":
            kind = "notice" if "notice" in vector else "encrypted"
            more = {key: vector[key] for key in ("recipient", "seed") if key in vector}
            for place, other in changed(chance, bytes.fromhex(vector.get("notice") or vector["envelope"])):
                yield f"{vector['name']}, of which byte {place} is another", kind, other, more
    for name, kind, data, more in made():
        if more or kind == "hops":
            for place, other in changed(chance, data):
                yield f"{name}, of which byte {place} is another", kind, other, more
    inner = d({"org": bytes(16), "tags": ["é"], "links": {"group": ["g"]}, "ext": {"x-a": "1"}, "fields": [["a", "1"], ["b", '"c"']]})
    follows = d(notice(KEY, next=public(key_of(31)), until=2**40, encryption=X25519))
    ask = {"node": "cert-ee", "key": public(key_of(2)), "encryption": X25519, "addresses": ["/dns/a/tcp/1"], "software": "s"}
    ask = d(ask | {"commitment": bytes(32)})
    possession = joining.POSSESSION + public(key_of(TICKET)) + public(key_of(HOST))
    content = d(["cert-at", public(key_of(1)), ["/ip4/192.0.2.1/tcp/4747"], bytes(16), 2**40, "cert-ee"])
    to = {"recipient": TO[0][0], "seed": TO[0][1].hex()}
    for turn in range(4):
        for place, other in changed(chance, inner):
            yield f"inner of which byte {place} is another", "encrypted", d(seal_encrypted(KEY, header(4), other, TO)), to
        for place, other in changed(chance, follows):
            both = [key.sign(formats.NOTICE + other) for key in (KEY, key_of(31))]
            yield f"notice of which byte {place} is another", "notice", d([other, *both]), {}
        for place, other in changed(chance, ask):
            yield f"ask of which byte {place} is another", "ask", d({"ask": [other, key_of(2).sign(possession + other)]}), {}
        for place, other in changed(chance, content):
            yield f"line of which byte {place} is another", "line", joining.line_of(other).encode(), {}
        for entry in ("ask", "nonce_message", "welcome", "refused"):
            for place, other in changed(chance, bytes.fromhex(vectors("join")[entry])):
                yield f"{entry} of which byte {place} is another", "message", other, {}
        for place, other in changed(chance, vectors("join")["line"].encode()):
            # What is no text cannot be asked.
            yield f"line of which character {place} is another", "line", other.decode("latin-1").encode(), {}


def probes(seed):
    for name, envelope in hops():
        yield f"hop: {name}", "hops", envelope, {}
        yield f"hop: {name}", "envelope", envelope, {}
    for name, data in carried():
        yield f"encrypted: {name}", "envelope", data, {}
    for name, envelope, node, secret in opened():
        yield f"opened: {name}", "encrypted", d(envelope), {"recipient": node, "seed": secret.hex()}
        yield f"not opened: {name}", "envelope", d(envelope), {}
    for kind, given in (("notice", notices()), ("message", messages()), ("ask", asks()), ("frame", frames())):
        for name, data in given:
            yield f"{kind}: {name}", kind, data, {}
    for name, line in lines():
        yield f"line: {name}", "line", line.encode(), {}
    yield from by_chance(random.Random(seed))


if __name__ == "__main__":
    for name, kind, data, more in probes(sys.argv[1]):
        print(json.dumps({"name": name, "kind": kind, "hex": data.hex()} | more))
