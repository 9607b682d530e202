#!/usr/bin/env python3
"""What a request costs one program, by what it costs another, both meeting the same machine.

  harness/pair_cost.py [--bin-dir DIR] [--rounds N] [--conns N] [--turn-ms N] [--seed N] REFERENCE SUBJECT

REFERENCE and SUBJECT are command lines of servers that say `listening on ADDR`; {listen} in them becomes an address with a free port,
{backend} that of an hp-echo of their own, and LISTEN and BACKEND are the same in their environment. Both run at the same time on CPU 0;
their two hp-bench, which take turns (docs/decisions/0030), and the backends have CPU 1. Who has the first turn is drawn for each round.
Printed is the trimmed mean of the rounds' paired ratios of CPU time per request with a 95 % bootstrap interval; the same command twice
shows what this machine calls equal.

Exit 0; 1 where a program failed or had errors; 2 misuse, or where there are fewer than two CPUs. It takes about rounds x 1.7 s.
"""

import argparse
import json
import os
import random
import shlex
import statistics
import subprocess
import sys
import tempfile

from process import BIN_DIR, BOUND_S, Failed, Server, bounded, cpu_seconds, end_all_when_asked, pinned, seats
from ratio import paired, trimmed_mean

WINDOW_MS, WARMUP_MS = 1000, 200


def started(options, command, backend):
    """A server beside its backend; its configuration may ask the environment where to listen, and whom to ask."""
    places = {"listen": "127.0.0.1:0", "backend": backend}
    words = [word.format(**places) for word in shlex.split(command)]
    return Server(["env", f"LISTEN={places['listen']}", f"BACKEND={backend}", *words], options.server_cpu)


def load(options, server, turn, report):
    command = [
        options.bin("hp-bench"), server.address, "-c", str(options.conns), "-t", "1", "-d", f"{WINDOW_MS}ms", "--warmup", f"{WARMUP_MS}ms",
        "--progress", "none", "--turns", f"{options.turn_ms}ms", "--turn", f"{turn}/2", "--json", report,
    ]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=pinned(options.client_cpu),
    )


def visit(options, turns, scratch):
    """CPU time per request of both, in us; the warm-up is in their time, and its requests are reckoned by its length."""
    running = []
    try:
        servers = []
        for command in (options.reference, options.subject):
            backend = Server([options.bin("hp-echo"), "--listen", "127.0.0.1:0", "--workers", "1"], options.client_cpu)
            running.append(backend)
            servers.append(started(options, command, backend.address))
            running.append(servers[-1])
        before = [cpu_seconds(server.process.pid) for server in servers]
        reports = [os.path.join(scratch, f"{index}.json") for index in range(2)]
        loads = [load(options, *one) for one in zip(servers, turns, reports)]
        for one in loads:
            _, said = one.communicate(timeout=BOUND_S)
            if one.returncode != 0:
                raise Failed(f"hp-bench: exit {one.returncode}: {said.strip()}")
        after = [cpu_seconds(server.process.pid) for server in servers]
    finally:
        for one in running:
            one.end()
    return [cost(*one) for one in zip(before, after, reports)]


def cost(before, after, report):
    with open(report, encoding="utf-8") as file:
        told = json.load(file)
    answers = told["run"]["responses"]
    if told["errors"] or not answers:
        raise Failed(f"hp-bench: it met errors, or no answer at all: {told['errors']}")
    return (after - before) * 1e6 / (answers * (WINDOW_MS + WARMUP_MS) / WINDOW_MS)


def words():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", metavar="REFERENCE")
    parser.add_argument("subject", metavar="SUBJECT")
    parser.add_argument("--bin-dir", default=BIN_DIR)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--conns", type=int, default=100)
    parser.add_argument("--turn-ms", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    end_all_when_asked()
    bounded(parser, options, {"--rounds": 200, "--conns": 5000, "--turn-ms": WINDOW_MS // 2})
    options.server_cpu, options.client_cpu = seats(parser, "one for the servers, one for hp-bench and the backends")
    options.bin = lambda name: os.path.join(options.bin_dir, name)
    return options


def main():
    options = words()
    chance = random.Random(options.seed)
    pairs = []
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for _ in range(options.rounds):
                pairs.append(visit(options, chance.sample((1, 2), 2), scratch))
    except (Failed, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
        print(f"pair_cost.py: {error}", file=sys.stderr)
        return 1
    ratio, low, high = paired(pairs, chance, trimmed_mean)
    reference, subject = (statistics.median(column) for column in zip(*pairs))
    print(f"{ratio:.3f} of the reference [{low:.3f}, {high:.3f}]   {reference:.2f} and {subject:.2f} us/request   {options.rounds} rounds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
