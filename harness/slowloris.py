#!/usr/bin/env python3
"""What clients that never finish their requests cost those that do.

  harness/slowloris.py [--bin-dir DIR] [--engine E] [--slow N] [--rounds N] [--seconds N] [--connections N]

Paired rounds through one hp-proxy worker before hp-echo: hp-bench alone, and hp-bench beside N connections (default 1000)
that send a request's head a byte at a time, and connect again when they are refused. Prints the p99 of both, round for
round, and the ratio of their medians. Exit 0 when that is at most 2, 1 when it is more or something failed, 2 misuse.
Everything is on 127.0.0.1 and free ports, and takes about 2 x rounds x (seconds + 2). Slow clients are refused after 10
seconds: a shorter round does not see them come back.
"""

import argparse
import json
import os
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import threading
import time

from process import BIN_DIR, BOUND_S, Failed, Server, end_all_when_asked

RATIO_MAX = 2.0
HEAD = b"GET / HTTP/1.1\r\nHost: slow.example\r\nX-Slow: " + b"x" * 4096


class Crowd:
    """Connections that send a head byte by byte; one thread drives them all."""

    def __init__(self, addr, count):
        host, port = addr.rsplit(":", 1)
        self.addr = (host, int(port))
        self.count = count
        self.ended = threading.Event()
        self.refused = 0
        self.failures = 0

    def __enter__(self):
        self.selector = selectors.DefaultSelector()
        self.sent = {}
        for _ in range(self.count):
            self.open()
        if not self.sent:
            raise Failed("no slow connection could be opened")
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        for connection in self.sent:
            connection.close()
        self.selector.close()

    def open(self):
        try:
            connection = socket.create_connection(self.addr, timeout=BOUND_S)
        except OSError:
            self.failures += 1
            return
        connection.setblocking(False)
        self.sent[connection] = 0
        self.selector.register(connection, selectors.EVENT_READ)

    def replace(self, connection):
        self.selector.unregister(connection)
        del self.sent[connection]
        connection.close()
        self.refused += 1
        self.open()

    def run(self):
        """A byte on each connection about once a second; an answer to it is a refusal."""
        while not self.ended.is_set():
            begun = time.monotonic()
            for connection, sent in list(self.sent.items()):
                if self.ended.is_set():
                    return
                try:
                    self.sent[connection] = sent + connection.send(HEAD[sent:sent + 1])
                except BlockingIOError:
                    pass
                except OSError:
                    self.replace(connection)
            for key, _ in self.selector.select(timeout=0):
                self.replace(key.fileobj)
            self.ended.wait(max(0.0, begun + 1 - time.monotonic()))


def p99_us(options, addr):
    """Microseconds, of one run of hp-bench without errors."""
    command = [
        os.path.join(options.bin_dir, "hp-bench"), "-q", "--json", "-", "-t", "1",
        "-c", str(options.connections), "-d", f"{options.seconds}s", addr,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=options.seconds + 60, check=False
    )
    if done.returncode != 0:
        raise Failed(f"hp-bench: exit {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)["latency_ns"]["p"]["99"] / 1000


def measure(options):
    """Prints a line a round; gives the ratio of the medians."""
    program = lambda name: os.path.join(options.bin_dir, name)
    alone, beside = [], []
    echo = [program("hp-echo"), "--listen", "127.0.0.1:0", "--workers", "1"]
    with Server(echo) as backend:
        proxy = [
            program("hp-proxy"), "--listen", "127.0.0.1:0", "--backend", backend,
            "--workers", "1", "--engine", options.engine,
        ]
        with Server(proxy) as addr:
            print(f"engine {options.engine}, {options.connections} connections, {options.slow} slow ones")
            for number in range(1, options.rounds + 1):
                alone.append(p99_us(options, addr))
                with Crowd(addr, options.slow) as crowd:
                    time.sleep(1)  # All have begun: what is measured is their presence, not their coming.
                    beside.append(p99_us(options, addr))
                print(
                    f"round {number}: p99 {alone[-1]:.0f} us alone, {beside[-1]:.0f} us beside them"
                    f" ({crowd.refused} refused and back, {crowd.failures} not connected)"
                )
    return statistics.median(beside) / statistics.median(alone)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin-dir", default=BIN_DIR)
    parser.add_argument("--engine", default="auto", choices=["auto", "uring", "epoll", "threads"])
    parser.add_argument("--slow", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--connections", type=int, default=50)
    options = parser.parse_args()
    end_all_when_asked()
    if not (1 <= options.slow <= 20_000 and 1 <= options.rounds <= 50 and 1 <= options.seconds <= 60):
        parser.error("--slow takes 1 to 20000, --rounds 1 to 50, --seconds 1 to 60")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        ratio = measure(options)
    except (Failed, OSError, subprocess.TimeoutExpired, ValueError, KeyError) as error:
        print(f"slowloris.py: {error}", file=sys.stderr)
        return 1
    print(f"ratio of the medians {ratio:.2f}, at most {RATIO_MAX:.0f}")
    return 0 if ratio <= RATIO_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
