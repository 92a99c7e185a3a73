"""What IntelMQ itself makes of messages: the other side of tests/harmonization.rs.

The first line out has the version of Python, the installed format, and the events that the installed test-suite of IntelMQ expects of its
parsers. Then each line in, `{"given": text, "ours": text or null, "kind": "Event", "old": bool}`, has one line out:
`theirs`, what a second bot reads of `given` (null: refused, with `why`), and `trouble`, what is wrong with `ours` (null: nothing),
and `ours` in the notation of `theirs`.
"""
import copy
import importlib
import json
import pathlib
import sys
import warnings

warnings.simplefilter("ignore")

import intelmq  # noqa: E402
from intelmq.lib.message import MessageFactory  # noqa: E402

HOME = pathlib.Path(intelmq.__file__).parent
CONF = (HOME / "etc" / "harmonization.conf").read_text()
NEW = json.loads(CONF)
OLD = copy.deepcopy(NEW)
# What IntelMQ 3.4 added.
for name in list(OLD["event"]):
    if name in ("severity", "constituency") or name.startswith("product."):
        del OLD["event"][name]


def dictionaries(thing, depth=0):
    if isinstance(thing, dict):
        if "__type" in thing:
            yield thing
        thing = list(thing.values())
    if isinstance(thing, (list, tuple)) and depth < 4:
        for item in thing:
            yield from dictionaries(item, depth + 1)


def suite():
    """Events in the test modules of the parsers; a module that needs what is not installed has none."""
    for path in sorted((HOME / "tests" / "bots" / "parsers").rglob("test_*.py")):
        module = ".".join(("intelmq", *path.relative_to(HOME).with_suffix("").parts))
        try:
            names = vars(importlib.import_module(module))
        except BaseException:
            continue
        inner = [vars(thing) for thing in names.values() if isinstance(thing, type) and thing.__module__ == module]
        for variables in (names, *inner):
            for thing in list(variables.values()):
                for message in dictionaries(thing):
                    try:
                        yield json.dumps(message)
                    except TypeError:
                        pass


def read(text, conf, kind):
    return MessageFactory.unserialize(text, harmonization=conf, default_type=kind)


def notation(message):
    return json.dumps(dict(message), sort_keys=True)


def theirs(given, conf, kind):
    first = read(given, conf, kind)
    return notation(read(MessageFactory.serialize(first), conf, kind))


def trouble(ours, conf, kind):
    message = read(ours, conf, kind)
    plain = json.loads(ours)
    if notation(message) != notation(plain):
        return "IntelMQ changes it: " + notation(message)
    # What outputs and experts do with it.
    for hierarchical in (False, True):
        message.to_json(hierarchical=hierarchical, with_type=True).encode("utf-8")
    message.hash()
    if kind == "Event":
        message.get("extra")
    json.dumps(message.to_dict(hierarchical=True), allow_nan=False)
    return None


def answer(case):
    conf = OLD if case["old"] else NEW
    result = {"theirs": None, "why": None, "ours": None, "trouble": None}
    try:
        result["theirs"] = theirs(case["given"], conf, case["kind"])
    except BaseException as error:
        result["why"] = repr(error)[:200]
    if case["ours"] is not None:
        try:
            result["trouble"] = trouble(case["ours"], conf, case["kind"])
            result["ours"] = notation(json.loads(case["ours"]))
        except BaseException as error:
            result["trouble"] = repr(error)[:200]
    return result


def main():
    print(json.dumps({"conf": CONF, "events": sorted(set(suite())), "python": sys.version}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))))


main()
