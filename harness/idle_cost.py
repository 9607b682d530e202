#!/usr/bin/env python3
"""What connections that idle take of the kernel's memory and of the program's, and what their next requests cost.

  harness/idle_cost.py [--bin-dir DIR] [--rounds N] [--conns N] [--rest SECONDS] [--json FILE] NAME=COMMAND...

COMMAND starts a server that says `listening on ADDR`; {listen} in it becomes an address with a free port, {backend} that of an hp-echo of
its own. Each round visits all of them in an order drawn anew. N connections (default 8,000) make a request each and idle for SECONDS
(default 5). Then all make one more, a tenth of a millisecond after each other at the soonest, so that each finds the server idle or nearly.

Printed are medians of the rounds: growth of /proc/slabinfo per connection, both of its ends and the backend's included, so that only a
difference between two servers says something; growth of the server's proportional set size; CPU time of the server for a second request.
Everything is on loopback. Needs root, for /proc/slabinfo. Exit 0; 1 where a program failed or an answer was lost; 2 misuse.
"""

import argparse
import json
import os
import random
import resource
import shlex
import socket
import statistics
import sys
import time

from process import BIN_DIR, BOUND_S, Failed, Server, bounded, cpu_seconds, end_all_when_asked, pss_bytes, seats

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
DESCRIPTORS_SPARE = 500
GAP_S = 0.0001
BATCH = 500
FIGURES = "kernel_bytes", "program_bytes", "cpu_us"
SLABINFO = "/proc/slabinfo"


def slab_bytes():
    """What the kernel's caches of small objects hold (proc(5), /proc/slabinfo)."""
    with open(SLABINFO, encoding="ascii") as file:
        rows = [line.split() for line in file if not line.startswith(("slabinfo", "#"))]
    return sum(int(row[1]) * int(row[3]) for row in rows)


def answered(connection):
    if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
        raise Failed("a connection got no answer, or another one than 200")


def connected(address, count):
    host, port = address.rsplit(":", 1)
    connections = []
    for _ in range(count):
        connection = socket.create_connection((host, int(port)), BOUND_S)
        connections.append(connection)
        connection.sendall(REQUEST)
        answered(connection)
    return connections


def asked_again(connections):
    for start in range(0, len(connections), BATCH):
        batch = connections[start:start + BATCH]
        for connection in batch:
            connection.sendall(REQUEST)
            time.sleep(GAP_S)
        for connection in batch:
            answered(connection)


def visit(options, command):
    """Bytes of the kernel, bytes of the program, and us of CPU time for one more request."""
    backend = Server([options.bin("hp-echo"), "--listen", "127.0.0.1:0", "--workers", "1", "--engine", "epoll"], options.client_cpu)
    connections = []
    try:
        places = {"listen": "127.0.0.1:0", "backend": backend.address}
        server = Server([word.format(**places) for word in shlex.split(command)], options.server_cpu)
        try:
            pid = server.process.pid
            connected(server.address, 1)[0].close()
            kernel, program = slab_bytes(), pss_bytes(pid)
            connections = connected(server.address, options.conns)
            time.sleep(options.rest)
            kernel, program = slab_bytes() - kernel, pss_bytes(pid) - program
            before = cpu_seconds(pid)
            asked_again(connections)
            spent = cpu_seconds(pid) - before
        finally:
            server.end()
    finally:
        backend.end()
        for connection in connections:
            connection.close()
    return kernel / options.conns, program / options.conns, spent * 1e6 / options.conns


def words():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", metavar="NAME=COMMAND", nargs="+")
    parser.add_argument("--bin-dir", default=BIN_DIR)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--conns", type=int, default=8000)
    parser.add_argument("--rest", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="also write each visit's figures there")
    options = parser.parse_args()
    end_all_when_asked()
    bounded(parser, options, {"--rounds": 100, "--conns": 50_000, "--rest": 60})
    options.servers = [server.partition("=")[::2] for server in options.servers]
    if not all(name and command for name, command in options.servers):
        parser.error("each server is NAME=COMMAND")
    if not os.access(SLABINFO, os.R_OK):
        parser.error(f"{SLABINFO} cannot be read: run it as root")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < options.conns + DESCRIPTORS_SPARE:
        parser.error(f"{options.conns} connections need {options.conns + DESCRIPTORS_SPARE} descriptors, and there may be {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    options.server_cpu, options.client_cpu = seats(parser, "one for the server, one for the clients and the backend")
    options.bin = lambda name: os.path.join(options.bin_dir, name)
    return options


def main():
    options = words()
    chance = random.Random(options.seed)
    found = {name: [] for name, _ in options.servers}
    try:
        for _ in range(options.rounds):
            for name, command in chance.sample(options.servers, len(options.servers)):
                found[name].append(visit(options, command))
    except (Failed, OSError, ValueError, KeyError) as error:
        print(f"idle_cost.py: {error}", file=sys.stderr)
        return 1
    if options.json:
        visits = {name: [dict(zip(FIGURES, visit)) for visit in visits] for name, visits in found.items()}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"conns": options.conns, "rest_s": options.rest, "seed": options.seed, "visits": visits}, file, indent=1)
    print("| server | kernel, bytes | program, bytes | one more request, us of CPU |\n| --- | --- | --- | --- |")
    for name, visits in found.items():
        cells = [f"{statistics.median(column):.0f} [{min(column):.0f}, {max(column):.0f}]" for column in zip(*visits)]
        print(f"| {name} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
