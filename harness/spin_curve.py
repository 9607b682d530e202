#!/usr/bin/env python3
"""What a worker that spins gains its clients, and what it takes.

  harness/spin_curve.py [--bin-dir DIR] [--rounds N] [--seconds N] [--conns N] [--spins 0,20,50,...] [--seed N] [--json FILE]

Each round visits hp-relay, which does nothing but move bytes, a second one (A/A), and hp-proxy with each --spin, in random order. A
server has CPU 0 alone; hp-bench, which asks in a closed loop, and hp-echo share CPU 1. Printed for each: the median of the rounds' p50
and p99, p50 as a ratio to the relay of the same round with a 95 % bootstrap interval, and how much of its CPU the server used.

Exit 0; 1 where a program failed or had errors; 2 misuse, or where there are fewer than two CPUs. It takes about
rounds x (number of spins + 2) x (seconds + 1 s).
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile

from process import BIN_DIR, BOUND_S, Failed, Server, bounded, cpu_seconds, end_all_when_asked, pinned, seats
from ratio import paired


def subjects(options, backend):
    relay = [options.bin("hp-relay"), "--listen", "127.0.0.1:0", "--backend", backend, "--engine", options.engine]
    proxy = [options.bin("hp-proxy"), "--listen", "127.0.0.1:0", "--backend", backend, "--engine", options.engine, "--workers", "1"]
    spinning = {f"hp-proxy --spin {spin}": proxy + ["--spin", str(spin)] for spin in options.spins}
    return {"hp-relay": relay, "hp-relay A/A": relay} | spinning


def visit(options, command, report):
    server = Server(command, options.server_cpu)
    try:
        before = cpu_seconds(server.process.pid)
        run = subprocess.run(
            [
                options.bin("hp-bench"), server.address, "-c", str(options.conns), "-t", "1", "-d", f"{options.seconds}s",
                "--warmup", f"{WARMUP_S * 1000:.0f}ms", "--progress", "none", "--json", report,
            ],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, preexec_fn=pinned(options.client_cpu),
            timeout=options.seconds + BOUND_S, check=False,
        )
        used = cpu_seconds(server.process.pid) - before
    finally:
        server.end()
    if run.returncode != 0:
        last = (run.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Failed(f"hp-bench: exit {run.returncode}: {last}")
    with open(report, encoding="utf-8") as file:
        told = json.load(file)
    if sum(told["errors"].values()) or not told["run"]["responses"]:
        raise Failed(f"hp-bench: it met errors, or no answer at all: {told['errors']}")
    latency = told["latency_ns"]["p"]
    return {
        "p50_us": latency["50"] / 1e3, "p99_us": latency["99"] / 1e3, "rps": told["run"]["rps"],
        "cpu_share": used / (options.seconds + WARMUP_S),
    }


def measure(options, backend, chance):
    commands = subjects(options, backend)
    taken = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(options.rounds):
            order = list(commands)
            chance.shuffle(order)
            for name in order:
                taken[name].append(visit(options, commands[name], os.path.join(scratch, "report.json")))
    rows = []
    for name, rounds in taken.items():
        pairs = ((relay["p50_us"], mine["p50_us"]) for mine, relay in zip(rounds, taken["hp-relay"]))
        ratio, low, high = paired(pairs, chance)
        middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        rows.append({"subject": name, "p50_ratio": ratio, "low": low, "high": high, **middle, "rounds": rounds})
        print(
            f"{name:20} p50 {middle['p50_us']:7.1f} us ({ratio:.2f} of the relay [{low:.2f}, {high:.2f}])   p99 {middle['p99_us']:7.1f} us"
            f"   cpu {100 * middle['cpu_share']:3.0f} %   {middle['rps']:7.0f}/s",
            flush=True,
        )
    return rows


def words():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin-dir", default=BIN_DIR)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--conns", type=int, default=1)
    parser.add_argument("--spins", default="0,20,50,100,200")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    end_all_when_asked()
    bounded(parser, options, {"--rounds": 50, "--seconds": 60, "--conns": 1000})
    try:
        options.spins = [int(spin) for spin in options.spins.split(",")]
    except ValueError:
        parser.error("--spins takes microseconds with commas between them, such as 0,50,100")
    options.server_cpu, options.client_cpu = seats(parser, "one for the server alone, one for hp-bench and hp-echo")
    options.bin = lambda name: os.path.join(options.bin_dir, name)
    return options


WARMUP_S = 0.5


def main():
    options = words()
    chance = random.Random(options.seed)
    echo = [options.bin("hp-echo"), "--listen", "127.0.0.1:0", "--workers", "1"]
    try:
        with Server(echo, options.client_cpu) as backend:
            rows = measure(options, backend, chance)
        if options.json:
            told = {key: getattr(options, key) for key in ("engine", "rounds", "seconds", "conns", "seed")}
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump({**told, "rows": rows}, file, indent=1)
    except (Failed, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
        print(f"spin_curve.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
