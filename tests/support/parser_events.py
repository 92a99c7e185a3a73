"""Events as IntelMQ's own parsers make them: runs the parser tests that come with the installed package, and prints
what the parsers put on the pipeline, one JSON object a line: {"parser": …, "message": "…"}.

Owns no data: everything is made by the installed parsers from the installed tests' inputs, when this runs. A test that
cannot run here (a library, the internet, a schema that would have to be fetched) gives nothing, and is counted on
standard error.

    python parser_events.py shadowserver abusech …      (no names: all of them)
"""

import json
import os
import sys
import unittest

# IntelMQ does not run as root, and only asks for this.
if os.geteuid() == 0:
    os.geteuid = lambda: 1000
for skip in ("REDIS", "INTERNET"):
    os.environ.setdefault(f"INTELMQ_SKIP_{skip}", "1")

import intelmq.tests.bots.parsers as tests
from intelmq.lib import test

ROOT = os.path.dirname(tests.__file__)


def recorded(run_bot, found):
    """run_bot, which also notes what the bot put into its output queue."""

    def run(self, *arguments, **options):
        try:
            return run_bot(self, *arguments, **options)
        finally:
            if self.bot_type == "parser" and self.pipe:
                parser = type(self).__module__.removeprefix(tests.__name__ + ".").split(".")[0]
                found.extend({"parser": parser, "message": text} for text in self.get_output_queue())

    return run


def suite(names):
    top = ROOT
    for _ in tests.__name__.split("."):
        top = os.path.dirname(top)
    loader = unittest.TestLoader()
    folders = [os.path.join(ROOT, name) for name in names] or [ROOT]
    return unittest.TestSuite(loader.discover(folder, top_level_dir=top) for folder in folders)


def main():
    found = []
    test.BotTestCase.run_bot = recorded(test.BotTestCase.run_bot, found)
    # The tests print as they like; only our lines go to standard output.
    out, sys.stdout = sys.stdout, sys.stderr
    result = unittest.TextTestRunner(stream=open(os.devnull, "w")).run(suite(sys.argv[1:]))
    for line in found:
        print(json.dumps(line), file=out)
    bad = [str(case) for case, _ in result.failures + result.errors]
    print(f"{result.testsRun} tests, {len(result.skipped)} skipped, {len(bad)} failed: {bad}", file=sys.stderr)


main()
