#!/usr/bin/env python3
"""Runs a command on a terminal of its own, as a person does, and passes on what it writes.

On SIGTERM it types Ctrl-C there: the terminal then sends SIGINT to every process of the foreground group at once, which a `kill`
does not. Ends with the command's status, 128 and the signal's number where a signal ended it.
"""

import os
import pty
import signal
import sys

CTRL_C = b"\x03"


def main():
    pid, terminal = pty.fork()
    if pid == 0:
        # What a background process of a shell ignores, a person's foreground process does not.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execvp(sys.argv[1], sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: os.write(terminal, CTRL_C))
    while True:
        try:
            written = os.read(terminal, 4096)
        except OSError:
            break  # EIO: the last process on the terminal has closed it.
        if not written:
            break
        os.write(1, written)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sys.exit(code if code >= 0 else 128 - code)


main()
