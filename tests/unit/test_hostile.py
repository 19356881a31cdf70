"""Files that are made to harm: each is refused with a place, and neither CPU nor memory runs away.

Each is read by a process of its own whose CPU time and memory the kernel bounds, far above
what a reading takes and far below what one takes that grows with the square of the file.
"""

import json
import os
import resource
import subprocess
import sys

import pytest

from reconciler.config.text import MAX_BYTES

pytestmark = pytest.mark.slow

CPU_S = 5
MEMORY_BYTES = 512 * 2**20

HEAD = b"interface: eth0\nport: 80\nbackends: "
SOME = HEAD + b"[10.0.0.1]\n"
MANY = 70_000  # more would be refused by number alone


def fill(part, size=MAX_BYTES):
    """As many whole repetitions as there is room for."""
    return part * ((size - 1) // len(part))


def number(template, count):
    return b"".join(template.replace(b"@", b"%d" % i) for i in range(count))


LAUGHS = b"l0: &l0 [x, x]\n" + b"".join(
    b"l%d: &l%d [%s]\n" % (i, i, b", ".join([b"*l%d" % (i - 1)] * 9)) for i in range(1, 40)
)

FILES = {
    # larger than it looks
    "alias bomb": LAUGHS,
    "many anchors": b"[" + fill(b"&a x,") + b"]",
    "many tags": b"[" + fill(b"!a x,") + b"]",
    "many tag directives": number(b"%TAG !a@! b\n", 150_000) + b"--- x\n",
    "many tag directives behind the end": SOME
    + b"...\n"
    + number(b"%TAG !a@! b\n", 150_000)
    + b"---\n",
    "other directives": fill(b"%A b\n"),
    # deep
    "deep lists": fill(b"["),
    "deep mappings": fill(b"{a: "),
    "deep block lists": fill(b"- "),
    "deep block mappings": b"\n".join(b" " * i + b"a:" for i in range(2000)),
    "deep keys": fill(b"? "),
    # large
    "ten megabytes": b"# " + b"x" * 10 * 2**20,
    "ten megabytes of lines": b"a: 1\n" * (2 * 2**20),
    "many comments": fill(b"# x\n"),
    "many blank lines": fill(b"\n"),
    "many carriage returns": fill(b"\r"),
    "many blanks": fill(b" "),
    "many tabs": fill(b"\t"),
    "a million keys that are one": b"a:\n" * 1_000_000,
    "many keys": number(b"k@: 1\n", 300_000),
    "many keys that are unknown": SOME + number(b"k@: 1\n", 37_000),
    "many documents": fill(b"---\n"),
    "many colons": fill(b":"),
    "many mapping values": fill(b"a: "),
    "many quotes": fill(b"'"),
    "many double quotes": fill(b'"'),
    "many escapes": b'"' + fill(b"\\"),
    "many empty lists": b"[" + fill(b"[],") + b"]",
    "many entries": b"[" + fill(b"1,") + b"]",
    "long line": HEAD + b"[" + fill(b"10.0.0.1,") + b"]\n",
    "long value": b"interface: " + fill(b"x"),
    "long quoted value": b'interface: "' + fill(b"x") + b'"\n',
    "long value of many lines": b'interface: "' + fill(b"x\n\n") + b'"\n',
    "long block": b"interface: |\n" + fill(b"  x\n"),
    "long block of blank lines": b"interface: |\n" + fill(b"\n"),
    "long key": fill(b"x") + b": 1\n",
    "long number": HEAD + b"[" + b"9" * 1_000_000 + b"]\n",
    "long hexadecimal number": HEAD + b"[0x" + b"f" * 1000 + b"]\n",
    "infinite number": b"interface: eth0\nport: 1e999\nbackends: [10.0.0.1]\n",
    "many interfaces": b"port: 80\nbackends: [10.0.0.1]\ninterface: [" + b"eth0," * MANY + b"]\n",
    "many backends that are one": HEAD + b"\n" + b"  - 10.0.0.1\n" * MANY,
    "many backends that are none": HEAD + b"\n" + b"  - nonsense\n" * MANY,
    "many mistyped keys": HEAD + b"\n" + number(b"  - {address: 10.0.0.1, wieght@: 5}\n", 14_000),
    "many rings": b"interface: eth0\nservices:\n"
    + number(b"  - {name: s@, port: 80, ring_size: 1048572, backends: [10.0.0.2]}\n", 5000),
    # no text
    "nothing": b"",
    "random bytes": os.urandom(3_000_000),
    "a program": open(sys.executable, "rb").read(),  # noqa: SIM115
    "zeros": bytes(MAX_BYTES),
    "a zero": SOME + b"name: a\0b\n",
    "UTF-16": SOME.decode().encode("utf-16"),
    "a surrogate": b"interface: \xed\xa0\x80\nport: 80\n",
    "an escaped surrogate": b'interface: "\\ud800"\nport: 80\n',
    "half a character": SOME + b"# \xc3",
    "byte order marks": fill(b"\xef\xbb\xbf"),
    "line breaks of Unicode": fill("\x85".encode()),
    "escape sequences": b'interface: "\\x1b[31m"\nport: 80\n',
    # half a file
    "half a list": SOME[:-2],
    "half a string": b'interface: "eth0',
    "half a mapping": HEAD + b"\n  - {address: 10.0",
    "half a key": SOME + b"drain_tim",
}

READ = """
import json, sys
from reconciler.config import parse
parsed = parse(sys.stdin.buffer.read(), "lb.yaml")
errors = [d for d in parsed.diagnostics if d.is_error]
print(json.dumps({"valid": parsed.config is not None, "count": len(errors),
                  "has_place": all(d.source and d.source.line for d in errors),
                  "longest": max(len(d.message) for d in errors)}))
"""


def bound_resources():
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_at_little_cost(name):
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=FILES[name],
        capture_output=True,
        check=False,
        preexec_fn=bound_resources,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert not said["valid"]
    assert 1 <= said["count"] <= 1001
    assert said["has_place"]
    assert said["longest"] < 200
