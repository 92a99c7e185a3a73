"""Of the second implementation (verify.py): joining, docs/protocol.md §6. The line, the messages, the nonces, the words."""

import base64
import re

import cbor2

from formats import a_key, encryption_key, sha, table, word_or
from strict import name, need, octets, one_of, text, uint, verifies, whole

LINE = b"intelmq-relay/1 invitation"
TICKET = b"intelmq-relay/1 join"
POSSESSION = b"intelmq-relay/1 possession"
COMMITMENT = b"intelmq-relay/1 nonce commitment"
HOST_NONCE = b"intelmq-relay/1 host nonce"
GUEST_NONCE = b"intelmq-relay/1 guest nonce"
WORDS = b"intelmq-relay/1 words"
PREFIX = "relay-invite:"
SPACES = r"[^\S\x1c-\x1f]"  # Unicode's White_Space, which does not have the separators that Python adds


def address(cbor):
    found = cbor.text()
    cbor.need(re.fullmatch("[!-~]{0,340}", found), "no address")  # whether it is one, who dials it sees
    return found


def addresses(least):
    def read(cbor):
        found = cbor.list(address, 8)
        cbor.need(len(found) >= least, "no address")
        return found

    return read


# ------------------------------------------------------------------------------------------------------------ §6.1 line


def make_line(host, key, where, secret, expires, guest):
    content = cbor2.dumps([host, key, where, secret, expires, guest])
    return line_of(content)


def line_of(content, version=b"\x01"):
    data = version + content + sha(LINE, version, content)[:4]
    return PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")


def open_line(line):
    line = re.sub(SPACES, "", line)
    need(len(line) <= 4096, "an invitation of more than 4,096 characters")
    need(line.startswith(PREFIX), "no invitation")
    code = line[len(PREFIX) :]
    need(re.fullmatch("[A-Za-z0-9_-]+", code) and len(code) % 4 != 1, "not base64url")
    data = base64.urlsafe_b64decode(code + "=" * (-len(code) % 4))
    need(base64.urlsafe_b64encode(data).decode().rstrip("=") == code, "another form of base64url")
    need(len(data) >= 5, "too short")
    version, content, checksum = data[:1], data[1:-4], data[-4:]
    need(sha(LINE, version, content)[:4] == checksum, "the checksum is another")
    need(version == b"\x01", f"version {version[0]}")
    readers = name, a_key, addresses(1), octets(16), uint, name
    return whole(content, "the invitation's CBOR", lambda cbor: cbor.tuple(*readers))


def ticket_seed(secret):
    return sha(TICKET, secret)


# -------------------------------------------------------------------------------------------------------- §6.3 messages

SOFTWARE = text(0, 200)
REFUSALS = ("malformed", "cancelled", "used", "expired", "other-name", "own-key", "known-name", "known-key", "not-now")
ASK = {"node": name, "key": a_key, "encryption": encryption_key, "addresses": addresses(0), "software": SOFTWARE}
ASK |= {"commitment": octets(32)}
MESSAGE = word_or((), {
    "ask": lambda cbor: cbor.tuple(octets(), octets(64)),
    "nonce": octets(16),
    "welcome": table(node=name, encryption=encryption_key, software=SOFTWARE),
    "refused": one_of(*REFUSALS),
})


def open_message(data):
    need(len(data) <= 4096, "a message of more than 4,096 bytes")
    return whole(data, "a message's CBOR", MESSAGE)


def ask_content(content, key):
    """What a guest signs: `key` is that of its seed."""
    return cbor2.dumps({entry: content[entry] for entry in ASK} | {"key": key})


def possession(ticket, host, content):
    return POSSESSION + ticket + host + content


def open_ask(data, ticket, host):
    """What the host whose key and ticket these are reads in an ask."""
    says = open_message(data)
    need("ask" in says, "no ask")
    raw, signature = says["ask"]
    content = whole(raw, "an ask's CBOR", table(**ASK))
    need(verifies(content["key"], signature, possession(ticket, host, raw)), "the signature does not verify")
    return content


# ------------------------------------------------------------------------------------------------- nonces, and §6.4 words


def commitment(guest_nonce):
    return sha(COMMITMENT, guest_nonce)


def host_nonce(seed, ticket, guest, committed):
    return sha(HOST_NONCE, seed, ticket, guest, committed)[:16]


def guest_nonce(seed, ticket, host):
    return sha(GUEST_NONCE, seed, ticket, host)[:16]


def numbers(ticket, host, guest):
    """Those of the six words; host and guest are (name, key, nonce)."""
    parts = [bytes([len(name)]) + name.encode() + key + nonce for name, key, nonce in (host, guest)]
    bits = int.from_bytes(sha(WORDS, ticket, *parts), "big") >> 256 - 66
    return [bits >> 11 * place & 0x7FF for place in reversed(range(6))]
