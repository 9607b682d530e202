#!/usr/bin/env python3
"""What a load generator itself costs, and how late it sends.

  harness/client_cost.py [--bin-dir DIR] [--rounds N] [--seconds N] [--conns N] [--seed N] [--max RATIO] [--json FILE]
  harness/client_cost.py --lag [--rate N] [--wrk2 PATH] [the same]

Without --lag: CPU time of the generator by completed request, in a closed loop against one hp-echo. Each round runs wrk,
hp-bench on both engines, and h2load and hey where they are installed, in random order, each with one thread alone on CPU 1,
while hp-echo has CPU 0. The time is the process's whole user and system time, as wait4(2) tells it. Printed is the median of
the rounds' paired ratios to wrk with a 95 % bootstrap interval; a second wrk shows what this machine calls equal (A/A).
With --max: exit 1 where the interval of hp-bench on either engine lies above that ratio as a whole, or its median does by more
than the A/A half width.

With --lag: how much later than due hp-bench sends at a constant rate, on both engines, sleeping and with --spin, and the rate
that it reached. A virtual CPU is taken away at times (steal): rounds in which the kernel counted none of that on the generator's
CPU are told apart, for only in them did the generator have a CPU of its own. wrk2 tells no lag: its recorded and its uncorrected latency differ by it. It keeps nothing of its first 10
seconds, so it runs for 15 at least.

Exit 0; 1 where a program failed, had errors, or a --max fails; 2 misuse, or where there are fewer than two CPUs.
Everything is on 127.0.0.1 and a free port. The first part takes about rounds x (3 to 6) x seconds, the second rounds x 4 x
seconds.
"""

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import threading

from process import BIN_DIR, BOUND_S, Failed, Server, bounded, end_all_when_asked, pinned, seats, stolen_ticks
from ratio import paired

UNITS_US = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7}


def run(name, command, cpu, seconds):
    """A program alone on a CPU: its output, and its CPU time in us."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=pinned(cpu),
    )
    # Killed by its handle and while nobody has waited for it: never another process with its number.
    giving_up = threading.Timer(seconds + BOUND_S, process.kill)
    giving_up.start()
    try:
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        giving_up.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        last = (text.strip().splitlines() or ["it said nothing"])[-1]
        raise Failed(f"{name}: exit {process.returncode}: {last}")
    return text, (usage.ru_utime + usage.ru_stime) * 1e6, usage.ru_utime * 1e6


def count(name, pattern, text):
    found = re.search(pattern, text)
    requests = int(found.group(1).replace(",", "")) if found else 0
    if requests == 0:
        raise Failed(f"{name}: no request completed; run it by hand against hp-echo")
    return requests


def completed(name, text):
    """Requests that a generator says it completed, none of them with an error."""
    if name.startswith("wrk"):
        for failure in re.findall(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", text):
            raise Failed(f"{name}: {failure}")
        return count(name, r"(\d+) requests in", text)
    if name == "h2load":
        return count(name, r"(\d+) succeeded", text)
    if name == "hey":
        return count(name, r"\[200\]\s+(\d+) responses", text)
    if not re.search(r"\berrors 0\b", text):
        raise Failed(f"{name}: it met errors: {text.strip()}")
    return count(name, r"requests\s+([\d,]+) in", text)


def generators(options, addr):
    """The closed loops, by name; the first is the measure of the others."""
    url, conns, time = f"http://{addr}/", str(options.conns), f"{options.seconds}s"
    wrk = ["wrk", "-t1", f"-c{conns}", f"-d{time}", url]
    ours = [options.hp_bench, addr, "-c", conns, "-t", "1", "-d", time, "--warmup", "0", "--progress", "none", "--engine"]
    commands = {
        "wrk": wrk,
        "wrk A/A": wrk,
        "hp-bench epoll": ours + ["epoll"],
        "hp-bench uring": ours + ["uring"],
    }
    if shutil.which("h2load"):
        commands["h2load"] = ["h2load", "--h1", "-t1", f"-c{conns}", f"-D{options.seconds}", url]
    if shutil.which("hey"):
        commands["hey"] = ["hey", "-z", time, "-c", conns, "-cpus", "1", url]
    return commands


def cost(options, addr, chance):
    commands = generators(options, addr)
    taken = {name: [] for name in commands}
    for _ in range(options.rounds):
        order = list(commands)
        chance.shuffle(order)
        for name in order:
            text, cpu_us, user_us = run(name, commands[name], options.client_cpu, options.seconds)
            requests = completed(name, text)
            taken[name].append((cpu_us / requests, user_us / requests, requests / options.seconds))
    rows = []
    for name, rounds in taken.items():
        ratio, low, high = paired(((wrk[0], mine[0]) for mine, wrk in zip(rounds, taken["wrk"])), chance)
        cpu, user, rate = (statistics.median(column) for column in zip(*rounds))
        rows.append({
            "generator": name, "ratio": ratio, "low": low, "high": high, "cpu_us": cpu, "user_us": user, "rps": rate,
            "rounds": [{"cpu_us": cpu, "user_us": user, "rps": rate} for cpu, user, rate in rounds],
        })
        print(
            f"{name:15} {ratio:5.2f} of wrk [{low:.2f}, {high:.2f}]   {cpu:6.2f} us/request (user {user:5.2f})"
            f"   {rate:8.0f}/s",
            flush=True,
        )
    return rows, judged(rows, options.max)


def judged(rows, limit):
    """What falls short of the limit, a line each."""
    if limit is None:
        return []
    spread = {row["generator"]: row for row in rows}["wrk A/A"]
    half_width = max(spread["high"] - 1, 1 - spread["low"])
    return [
        f"{row['generator']}: {row['ratio']:.2f} of wrk [{row['low']:.2f}, {row['high']:.2f}], at most {limit} is asked"
        f" (A/A half width {half_width:.2f})"
        for row in rows
        if row["generator"].startswith("hp-bench")
        and (row["low"] > limit or row["ratio"] - limit > half_width)
    ]


def us(text):
    """`2.0 us`, `1.07ms` in us."""
    number, unit = re.fullmatch(r"([\d.]+) ?([a-z]+)", text).groups()
    return float(number) * UNITS_US[unit]


def lag_of_hp_bench(name, command, options):
    before = stolen_ticks(options.client_cpu)
    text, cpu_us, _ = run(name, command, options.client_cpu, options.seconds)
    stolen = stolen_ticks(options.client_cpu) - before
    found = re.search(r"send lag\s+p50 ([\d.]+ \w+)\s+p99 ([\d.]+ \w+)", text)
    if not found:
        raise Failed(f"{name}: it tells no send lag: {text.strip()}")
    return {
        "p50_us": us(found.group(1)), "p99_us": us(found.group(2)),
        "rps": completed(name, text) / options.seconds, "cpu_share": cpu_us / 1e6 / options.seconds,
        "stolen_ticks": stolen,
    }


def lag_of_wrk2(command, options, seconds):
    text, cpu_us, _ = run("wrk2", command, options.client_cpu, seconds)
    recorded, _, uncorrected = text.partition("Uncorrected Latency")
    values = {}
    for kind, part in (("", recorded), ("uncorrected_", uncorrected)):
        for percentile in ("50", "99"):
            found = re.search(rf"\b{percentile}\.000%\s+([\d.]+\w+)", part)
            if not found:
                raise Failed(f"{options.wrk2}: it is not wrk2, which prints percentiles for --latency and -U")
            values[f"{kind}p{percentile}_us"] = us(found.group(1))
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    return values | {"rps": float(rate.group(1)) if rate else 0.0, "cpu_share": cpu_us / 1e6 / seconds}


def lag(options, addr, chance):
    conns, rate = str(options.conns), str(options.rate)
    ours = [
        options.hp_bench, addr, "-c", conns, "-t", "1", "-R", rate, "-d", f"{options.seconds}s", "--progress", "none",
        "--warmup", "200ms", "--pin", str(options.client_cpu), "--engine",
    ]
    commands = {
        f"hp-bench {engine}{' spin' if spin else ''}": ours + [engine] + spin
        for engine in ("epoll", "uring")
        for spin in ([], ["--spin", "100"])
    }
    taken = {name: [] for name in commands}
    for _ in range(options.rounds):
        order = list(commands)
        chance.shuffle(order)
        for name in order:
            taken[name].append(lag_of_hp_bench(name, commands[name], options))
    if options.wrk2:
        seconds = max(15, options.seconds)
        command = [
            options.wrk2, "-t1", f"-c{conns}", f"-d{seconds}s", f"-R{rate}", "--latency", "-U", f"http://{addr}/",
        ]
        taken["wrk2"] = [lag_of_wrk2(command, options, seconds)]
    rows = []
    for name, rounds in taken.items():
        middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        best = min(one["p99_us"] for one in rounds)
        rows.append({"generator": name, **middle, "p99_us_least": best, "rounds": rounds})
        what = "latency" if name == "wrk2" else "lag"
        if name == "wrk2":
            rest = f"   uncorrected p50 {middle['uncorrected_p50_us']:.0f} p99 {middle['uncorrected_p99_us']:.0f} us"
        else:
            own = sorted(one["p99_us"] for one in rounds if one["stolen_ticks"] == 0)
            rest = f"   nothing stolen: {len(own)} of {len(rounds)}"
            if own:
                rest += f", their p99 {statistics.median(own):.1f}, at most {own[-1]:.1f} us"
        print(
            f"{name:20} {what} p50 {middle['p50_us']:7.1f} p99 {middle['p99_us']:8.1f} us (least p99 {best:.1f})"
            f"   {middle['rps']:8.0f}/s ({100 * middle['rps'] / options.rate:.2f} %)"
            f"   cpu {100 * middle['cpu_share']:.0f} %{rest}",
            flush=True,
        )
    return rows, []


def words():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin-dir", default=BIN_DIR)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--conns", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max", type=float)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--lag", action="store_true")
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--wrk2", metavar="PATH")
    options = parser.parse_args()
    end_all_when_asked()
    bounded(parser, options, {"--rounds": 50, "--seconds": 60, "--conns": 10_000, "--rate": 1_000_000})
    options.server_cpu, options.client_cpu = seats(parser, "one for the generator alone, one for hp-echo")
    options.hp_bench = os.path.join(options.bin_dir, "hp-bench")
    if not options.lag and not shutil.which("wrk"):
        parser.error("wrk is the measure of the others; install it, or give --lag")
    return options


def main():
    options = words()
    chance = random.Random(options.seed)
    echo = [os.path.join(options.bin_dir, "hp-echo"), "--listen", "127.0.0.1:0", "--workers", "1"]
    try:
        with Server(echo, options.server_cpu) as addr:
            rows, short = (lag if options.lag else cost)(options, addr, chance)
        if options.json:
            part = "lag" if options.lag else "cost"
            told = {key: getattr(options, key) for key in ("rounds", "seconds", "conns", "seed")}
            document = {"part": part, **told, "rate": options.rate if options.lag else None, "rows": rows}
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=1)
    except (Failed, OSError, ValueError, AttributeError) as error:
        print(f"client_cost.py: {error}", file=sys.stderr)
        return 1
    for line in short:
        print(f"client_cost.py: {line}", file=sys.stderr)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
