#!/usr/bin/env python3
"""A crowd of idle connections, held by several processes of hp-bench before several of hp-echo on one port.

  harness/crowd.py [--bin-dir DIR] [--engine E] [--connections N] [--processes N] [--lead SECONDS] [--seconds SECONDS]

Each hp-bench opens its part of N connections (default 50,000) from local addresses of its own, makes one request over
each, and holds them; at one instant (--start-at) all begin a low rate on one more connection each. While all are held,
the proportional set size of the clients is summed, and that of as many clients without idle connections is taken off.
At the end the results are merged. Prints bytes per connection, with and without the programs themselves. Exit 0 when
every connection was answered and held and the clients stay within 64 MiB; 1 when not; 2 misuse. Everything is on
loopback; it takes about lead + seconds + 5 seconds, less than the 75 for which hp-echo keeps an idle connection.
"""

import argparse
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time

from process import BOUND_S, Failed, Server, end, end_all_when_asked, pss_bytes

CLIENT_MEMORY_MAX = 64 << 20
DESCRIPTORS_SPARE = 500
WHOLE_MAX_S = 65  # Less than hp-echo keeps a connection that idles.
RATE = 20


class Echo(Server):
    """One hp-echo on the shared port, with a Unix socket of its own to ask it for its counters."""

    def __init__(self, options, address, name):
        self.name = name
        command = [f"{options.bin_dir}/hp-echo", "--workers", "1", "--engine", options.engine, "--reuse-port"]
        command += ["--listen", address, "--listen", f"unix:{name}"]
        super().__init__(command, listeners=2)

    def counters(self):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(BOUND_S)
            connection.connect(self.name)
            connection.sendall(b"GET /counters HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        return json.loads(answer.split(b"\r\n\r\n", 1)[1])


def clients_of(options, address, folder, idle, start, seconds):
    """Starts the clients; each has three source addresses of its own, so that no port is wanted twice."""
    clients = []
    for number in range(options.processes):
        first = 2 + 3 * number
        command = [f"{options.bin_dir}/hp-bench", address, "1", "-t", "1", "-d", f"{seconds}s", "--warmup", "0"]
        command += ["-R", str(RATE), "--idle", str(idle[number]), "--engine", options.engine, "-q"]
        command += ["--src", f"127.0.0.{first}-127.0.0.{first + 2}", "--timeout", "30s"]
        command += ["--start-at", str(int(start)), "--json", f"{folder}/{number}.json"]
        clients.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    return clients


def base_memory(options, address, folder):
    """What as many clients take that hold nothing but their one connection."""
    clients = clients_of(options, address, folder, [0] * options.processes, time.time() + 3, 1)
    time.sleep(1.5)  # They wait for their start.
    memory = sum(pss_bytes(client.pid) for client in clients)
    finish(clients, time.time() + BOUND_S)
    return memory


def finish(clients, deadline):
    for client in clients:
        try:
            _, said = client.communicate(timeout=max(0.1, deadline - time.time()))
        except subprocess.TimeoutExpired as late:
            raise Failed("a client goes on past its time; give more --lead") from late
        if client.returncode:
            raise Failed(f"a client ended with {client.returncode}: {said.strip()}")


def wait_until_held(servers, wanted, start):
    """Returns the sum of the servers' open connections, when all that are wanted are there."""
    while True:
        held = sum(server.counters()["connections_open"] for server in servers) - len(servers)
        if held >= wanted:
            return held
        if time.time() >= start:
            raise Failed(f"{held} of {wanted} connections were there when the load began; give more --lead")
        time.sleep(0.25)


def run(options, folder, programs):
    parts = range(options.processes)
    idle = [options.connections // options.processes + (part < options.connections % options.processes) for part in parts]
    servers = [Echo(options, "127.0.0.1:0", f"{folder}/0.sock")]
    programs += [server.process for server in servers]
    for part in parts[1:]:
        servers.append(Echo(options, servers[0].address, f"{folder}/{part}.sock"))
        programs.append(servers[-1].process)
    address = servers[0].address
    base = base_memory(options, address, folder)
    before = sum(server.counters()["requests"] for server in servers)
    start = int(time.time() + options.lead)
    clients = clients_of(options, address, folder, idle, start, options.seconds)
    programs += clients
    held = wait_until_held(servers, sum(idle) + len(clients), start)
    shares = [server.counters()["connections_open"] - 1 for server in servers]
    memory = sum(pss_bytes(client.pid) for client in clients)
    finish(clients, start + options.seconds + 20)
    answered = sum(server.counters()["requests"] for server in servers) - before
    results = [f"{folder}/{part}.json" for part in parts]
    merging = [f"{options.bin_dir}/hp-bench", "merge", *results, "--json", "-", "-q"]
    merged = json.loads(subprocess.run(merging, check=True, capture_output=True, text=True).stdout)
    timed = merged["run"]["responses"]
    if timed != sum(json.load(open(result, encoding="utf-8"))["run"]["responses"] for result in results):
        raise Failed("the merged result has not the answers of its parts")
    print(f"held       {held} connections by {len(clients)} clients; servers have {' + '.join(map(str, shares))}")
    print(f"answered   {answered} requests, {timed} of them timed, errors {merged['errors'] or 0}")
    print(f"memory     clients {memory / 2**20:.1f} MiB together, {base / 2**20:.1f} MiB of it without idle connections")
    print(f"each       {memory / held:.0f} bytes per connection, {(memory - base) / held:.0f} without the programs")
    if answered < held or merged["errors"]:
        raise Failed("not every connection was answered")
    if memory > CLIENT_MEMORY_MAX:
        raise Failed(f"the clients take more than {CLIENT_MEMORY_MAX >> 20} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin-dir", default="target/release")
    parser.add_argument("--engine", default="epoll", choices=["epoll", "uring", "auto"])
    parser.add_argument("--connections", type=int, default=50_000)
    parser.add_argument("--processes", type=int, default=3, choices=range(1, 65), metavar="N")
    parser.add_argument("--lead", type=int, default=25, help="seconds for opening the connections")
    parser.add_argument("--seconds", type=int, default=5, help="length of the load")
    options = parser.parse_args()
    end_all_when_asked()
    if options.connections < 1 or options.lead < 1 or options.seconds < 1:
        parser.error("--connections, --lead and --seconds are at least 1")
    if options.lead + options.seconds > WHOLE_MAX_S:
        parser.error(f"--lead and --seconds are at most {WHOLE_MAX_S} together: hp-echo closes what idles for longer")
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - DESCRIPTORS_SPARE
    # The kernel spreads connections over the servers by chance: one may get a little more than its share.
    if options.connections / options.processes * 1.05 > room:
        parser.error(f"{room} descriptors are left for each process; give more --processes")
    programs = []
    with tempfile.TemporaryDirectory(prefix="crowd-") as folder:
        try:
            run(options, folder, programs)
        except (Failed, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            print(f"crowd: {error}", file=sys.stderr)
            return 1
        finally:
            for program in reversed(programs):
                end(program)
    return 0


if __name__ == "__main__":
    sys.exit(main())
