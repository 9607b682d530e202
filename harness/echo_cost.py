#!/usr/bin/env python3
"""CPU time per request of hp-echo, beside other servers of 13 bytes.

  harness/echo_cost.py [--bin-dir DIR] [--bench FILE] [--other NAME=COMMAND]... [--connections N] [--rounds N]
                       [--seconds S] [--json FILE]

Servers run alone on one processor, the load (hp-bench) on another, one server at a time and all of them in each round, in
an order drawn by chance: hp-echo on epoll, twice (A/A says what this machine calls equal), hp-echo on io_uring, and nginx,
where it is installed, with `return 200` and with a file. --other adds a server; {port} in its command is a free port,
and the first --other is then what ratios are relative to, else hp-echo on epoll. A round's figure is the user and system time of the server
over the requests that were answered. Prints medians, and ratios of rounds that belong together as their geometric mean
with a 95 % bootstrap interval. Exit 0; 1 when something failed; 2 misuse. Measure on a machine that does nothing else.
"""

import argparse
import json
import os
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile

from process import Failed, SilentServer, cpu_seconds, end_all_when_asked, free_port
from ratio import paired

BODY = "Hello, world!"
NGINX = """worker_processes 1; daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
 fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; sendfile on;
 open_file_cache max=16; server {{ listen 127.0.0.1:{port} backlog=4096; root {folder}/files;
 location / {{ {answer} }} }} }}"""


def servers_of(options, folder, started):
    """Starts all; they idle but for the one that is asked."""
    def start(name, command, port):
        started.append((name, SilentServer(command, port, options.server_cpu)))

    for other in options.other:
        name, command = other.split("=", 1)
        port = free_port()
        start(name, shlex.split(command.format(port=port)), port)
    for name, engine in [("hp-echo epoll", "epoll"), ("A/A", "epoll"), ("hp-echo uring", "uring")]:
        port = free_port()
        echo = [f"{options.bin_dir}/hp-echo", "--listen", f"127.0.0.1:{port}", "--workers", "1", "--engine", engine]
        start(name, echo, port)
    if shutil.which("nginx"):
        os.mkdir(f"{folder}/files")
        with open(f"{folder}/files/index.html", "w", encoding="ascii") as file:
            file.write(BODY)
        for name, answer in [("nginx return", f'default_type text/plain; return 200 "{BODY}";'), ("nginx file", "")]:
            port = free_port()
            path = f"{folder}/{name.replace(' ', '-')}.conf"
            with open(path, "w", encoding="ascii") as file:
                file.write(NGINX.format(folder=folder, port=port, answer=answer))
            start(name, ["nginx", "-c", path], port)


def measure(options, name, server):
    """Microseconds of the server's time for each request of one round."""
    command = ["taskset", "-c", str(options.load_cpu), options.bench or f"{options.bin_dir}/hp-bench"]
    command += [f"127.0.0.1:{server.port}", str(options.connections), "-t", "1", "-d", f"{round(options.seconds * 1000)}ms"]
    command += ["--warmup", "0", "--json", "-", "-q"]
    before = cpu_seconds(server.process.pid)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    spent = cpu_seconds(server.process.pid) - before
    if done.returncode:
        raise Failed(f"{name}: hp-bench ended with {done.returncode}: {done.stderr.strip()}")
    result = json.loads(done.stdout)
    if result["errors"]:
        raise Failed(f"{name}: hp-bench met errors: {result['errors']}")
    answered = result["run"]["responses"]
    if answered == 0:
        raise Failed(f"{name}: it answered nothing")
    return spent / answered * 1e6


def run(options):
    chance = random.Random(options.seed)
    started = []
    with tempfile.TemporaryDirectory(prefix="echo-cost-") as folder:
        try:
            servers_of(options, folder, started)
            figures = {name: [] for name, _ in started}
            for name, server in started:
                measure(options, name, server)  # Warm, and not counted.
            for _ in range(options.rounds):
                for name, server in chance.sample(started, len(started)):
                    figures[name].append(measure(options, name, server))
        finally:
            for _, server in reversed(started):
                server.end()
    base = started[0][0]
    report = {"connections": options.connections, "rounds": options.rounds, "base": base, "servers": {}}
    print(f"{options.connections} connections, {options.rounds} rounds of {options.seconds} s, relative to {base}")
    for name, values in figures.items():
        ratio, low, high = paired(zip(figures[base], values), chance, statistics.fmean)
        report["servers"][name] = {"us": values, "median_us": statistics.median(values), "ratio": [ratio, low, high]}
        print(f"{name:16} {statistics.median(values):8.2f} us   {ratio:6.3f}  [{low:.3f}, {high:.3f}]")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
            file.write("\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin-dir", default="target/release")
    parser.add_argument("--bench", help="the load generator, when it is not the one beside hp-echo")
    parser.add_argument("--other", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--load-cpu", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    end_all_when_asked()
    if options.connections < 1 or options.rounds < 1 or not 0.1 <= options.seconds <= 60:
        parser.error("--connections and --rounds are at least 1, --seconds 0.1 to 60")
    if any("=" not in other or "{port}" not in other for other in options.other):
        parser.error("--other is NAME=COMMAND, with {port} in the command")
    try:
        run(options)
    except (Failed, OSError, ValueError, KeyError) as error:
        print(f"echo_cost: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
