"""The first lines that run in the user's interpreter: `python -c <this>`.

The node holds the other end of the socket that is this process's standard input. What follows comes over it: a length and a
JSON table of modules, which are made here under the name `umbel_bootstrap`, so that nothing is written to disk, nothing has to
be installed, and tracebacks show their lines.
"""

import json
import linecache
import os
import socket
import struct
import sys
import types


def receive(sock, size):
    """Exactly `size` bytes."""
    parts = []
    while size:
        part = sock.recv(min(size, 1 << 16))
        if not part:
            sys.exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def main():
    sock = socket.socket(fileno=os.dup(0))
    with open(os.devnull) as null:
        os.dup2(null.fileno(), 0)
    (size,) = struct.unpack(">I", receive(sock, 4))
    start = json.loads(receive(sock, size))
    package = types.ModuleType("umbel_bootstrap")
    package.__path__ = []
    sys.modules["umbel_bootstrap"] = package
    for name, source in start.pop("modules"):
        module = types.ModuleType("umbel_bootstrap." + name)
        module.__package__ = "umbel_bootstrap"
        module.__file__ = "<umbel>/%s.py" % name
        linecache.cache[module.__file__] = (len(source), None, source.splitlines(True), module.__file__)
        sys.modules[module.__name__] = module
        setattr(package, name, module)
        exec(compile(source, module.__file__, "exec", dont_inherit=True), module.__dict__)
    package.template.main(sock, start)


main()
