#!/usr/bin/env python3
"""What clients notice of reloads and upgrades: nothing may fail, nothing may be cut, and tails stay.

  harness/live_changes.py [--bin-dir DIR] [--engine E] [--connections N] [--websockets N] [--reloads N] [--upgrades N]
                          [--pairs N] [--rate N] [--close-spread TIME] [--json FILE]

One hp-proxy with a configuration file stands before three hp-echo and a WebSocket server of this script. hp-bench sends at
half of what it can get through (or --rate), on N connections (default 100), while N WebSockets (default 20) exchange a
message ten times a second. A change is a reload that moves routes, endpoints and weights (half of them by SIGHUP, half by the
admin listener), or an upgrade by SIGUSR2. A round with changes stands beside a round without, in an order that is drawn, and
so do two rounds without, which show what this machine calls equal; pairs of the three kinds take turns. A round without changes
goes through the motions: this script writes a file that nobody reads, and asks what it would ask, for its own work takes time
of the CPUs that all share. Where the hypervisor took more than 3 % of a round, a pair is made again, as often as there are pairs.

Exit 0 when no request failed, no WebSocket was cut or late, every change took effect, and p99 with changes is at most twice
that without (the median of pairs; a 95 % bootstrap interval is printed); 1 when not; 2 misuse. Everything is on loopback.
"""

import argparse
import base64
import hashlib
import http.client
import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from process import BOUND_S, TICKS, Failed, Server, end, end_all_when_asked, free_port, stolen_ticks
from ratio import paired

P99_FACTOR_MAX = 2.0
MESSAGE_EVERY_S = 0.1
MESSAGE_LATE_S = 5.0
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 4.2.2.
ROUND_REST_S = 0.5
STOLEN_MAX = 0.03


class WebSocketServer:
    """Takes every upgrade to websocket and sends each frame back; one thread drives all of them."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.ended = threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ, None)
            while not self.ended.is_set():
                for key, _ in selector.select(0.2):
                    if key.data is None:
                        connection, _ = self.listener.accept()
                        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        selector.register(connection, selectors.EVENT_READ, {"head": b"", "open": False})
                    elif not self.answer(key.fileobj, key.data):
                        selector.unregister(key.fileobj)
                        key.fileobj.close()

    @staticmethod
    def answer(connection, state):
        try:
            received = connection.recv(65536)
        except OSError:
            return False
        if not received:
            return False
        if state["open"]:
            connection.sendall(received)  # Frames come back as they are; the client knows its own mask.
            return True
        state["head"] += received
        if b"\r\n\r\n" in state["head"]:
            lines = state["head"].split(b"\r\n")
            keys = [line.split(b":", 1)[1].strip() for line in lines if line.lower().startswith(b"sec-websocket-key:")]
            if not keys:
                return False
            accept = base64.b64encode(hashlib.sha1(keys[0] + MAGIC).digest())
            connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            state["open"] = True
        return True

    def end(self):
        self.ended.set()
        self.listener.close()


class WebSockets:
    """Clients that send a numbered message every so often and wait for it to come back."""

    def __init__(self, address, count):
        self.faults = []
        self.messages = 0
        self.slowest_s = 0.0
        self.ended = threading.Event()
        self.sockets = [self.open(address) for _ in range(count)]
        self.thread = threading.Thread(target=self.talk)
        self.thread.start()

    @staticmethod
    def open(address):
        host, port = address.rsplit(":", 1)
        connection = socket.create_connection((host, int(port)), BOUND_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16))
        connection.sendall(
            b"GET /ws/live HTTP/1.1\r\nHost: live.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
        )
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(4096)
            if not piece:
                raise Failed(f"a WebSocket was not opened; what came: {head[:200]!r}")
            head += piece
        if not head.startswith(b"HTTP/1.1 101 "):
            raise Failed(f"a WebSocket was refused: {head[:200]!r}")
        connection.settimeout(MESSAGE_LATE_S)
        return connection

    def talk(self):
        number = 0
        while not self.ended.is_set() and self.sockets:
            begun = time.monotonic()
            number += 1
            waiting = []
            for connection in self.sockets:
                payload = b"message %08d" % number
                frame = bytes([0x82, 0x80 | len(payload)]) + bytes(4) + payload  # Masked with zeros: RFC 6455 section 5.3.
                try:
                    connection.sendall(frame)
                    waiting.append((connection, frame))
                except OSError as error:
                    self.faults.append(f"cut at message {number}: {error}")
                    self.sockets.remove(connection)
            for connection, frame in waiting:
                echoed = b""
                try:
                    while len(echoed) < len(frame):
                        piece = connection.recv(len(frame) - len(echoed))
                        if not piece:
                            raise OSError("it was closed")
                        echoed += piece
                    if echoed != frame:
                        raise OSError("another message came back")
                    self.messages += 1
                except OSError as error:
                    self.faults.append(f"cut at message {number}: {error}")
                    self.sockets.remove(connection)
            took = time.monotonic() - begun
            self.slowest_s = max(self.slowest_s, took)
            self.ended.wait(max(0.0, MESSAGE_EVERY_S - took))

    def end(self):
        self.ended.set()
        self.thread.join()
        for connection in self.sockets:
            connection.close()


class Proxy:
    """hp-proxy with a file that changes, whichever process is in charge."""

    def __init__(self, options, folder, echoes, websocket_address):
        self.echoes, self.websocket_address = echoes, websocket_address
        self.address = f"127.0.0.1:{free_port()}"
        self.admin = f"127.0.0.1:{free_port()}"
        self.options = options
        self.file, self.pid_file = f"{folder}/proxy.toml", f"{folder}/proxy.pid"
        self.log = open(f"{folder}/proxy.log", "w+b")  # pylint: disable=consider-using-with
        self.step = 0
        self.random = random.Random(1)
        self.move()
        command = [f"{options.bin_dir}/hp-proxy", "--config", self.file]
        self.process = subprocess.Popen(command, stderr=self.log)
        self.pids = [self.process.pid]
        try:
            self.wait_for(lambda: os.path.exists(self.pid_file), "its pid file")
        except Failed:
            end(self.process)
            raise

    def move(self):
        """A new state of the world."""
        self.step += 1
        self.write(self.file)

    def write(self, path):
        """The file: what differs from one to the next are routes, endpoints, weights and the way they are picked.

        As many endpoints share the work in about the same way in each, for a round has one file or several: one echo, or three,
        would have tails of their own, which are not the change's.
        """
        chosen = self.random.sample(self.echoes, 2)
        endpoints = ", ".join(
            f'{{ address = "{address}", weight = {weight} }}' for address, weight in zip(chosen, self.random.sample([4, 5, 6], 2))
        )
        balance = self.random.choice(["round_robin", "p2c"])
        more = "".join(
            f'[[route]]\npath = "/step/{number}"\nanswer = {{ status = 200, body = "{self.step}" }}\n'
            for number in range(self.random.randint(0, 20))
        )
        text = f"""workers = {self.options.workers}
engine = "{self.options.engine}"
drain_timeout = "1h"
close_spread = "{self.options.close_spread}"
pid_file = "{self.pid_file}"

[admin]
listen = "{self.admin}"

[[listener]]
address = "{self.address}"

[[route]]
path_prefix = "/ws/"
upstream = "ws"

[[route]]
path = "/step"
answer = {{ status = 200, body = "{self.step}" }}

{more}
[[route]]
upstream = "web"

[upstream.ws]
endpoints = ["{self.websocket_address}"]

[upstream.web]
endpoints = [{endpoints}]
balance = "{balance}"
"""
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(f"{path}.new", path)

    def pretend(self, kind, by_signal):
        """What a change takes of this script, without the change."""
        if kind == "upgrade":
            self.pid()
            return
        self.write(f"{self.file}.unread")
        if not by_signal:
            ask(self.admin, "GET", "/ready")
        self.wait_for(lambda: self.seen_step() == str(self.step), f"step {self.step} in its answers")

    def reload(self, by_signal):
        self.move()
        if by_signal:
            os.kill(self.pids[-1], signal.SIGHUP)
        else:
            status, said = ask(self.admin, "POST", "/reload")
            if status != 200:
                raise Failed(f"POST /reload: {status} {said}")
        self.wait_for(lambda: self.seen_step() == str(self.step), f"step {self.step} in its answers")

    def seen_step(self):
        return ask(self.address, "GET", "/step")[1]

    def upgrade(self):
        before = self.pids[-1]
        os.kill(before, signal.SIGUSR2)
        self.wait_for(lambda: self.pid() not in (None, before), "another process in its pid file")
        self.pids.append(self.pid())

    def pid(self):
        try:
            with open(self.pid_file, encoding="ascii") as file:
                return int(file.read())
        except (OSError, ValueError):
            return None

    def wait_for(self, is_so, what):
        deadline = time.monotonic() + BOUND_S
        while not is_so():
            if time.monotonic() > deadline:
                raise Failed(f"hp-proxy: no {what} within {BOUND_S} s; its log:\n{self.said()}")
            time.sleep(0.01)

    def said(self):
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace")[-4000:]

    def end(self):
        """Ends whoever is in charge; those before have their drain, which ends with their last connection."""
        if self.pids[-1] == self.process.pid:
            end(self.process)
        else:
            os.kill(self.pids[-1], signal.SIGTERM)
        self.wait_for(lambda: not any(is_running(pid) for pid in self.pids[1:]), "end of all its processes")
        code = self.process.wait(BOUND_S)
        self.log.close()
        return code


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def ask(address, method, path):
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=BOUND_S)
    try:
        connection.request(method, path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


class Load:
    """One run of hp-bench; what it saw is asked for at the end."""

    def __init__(self, options, folder, address, seconds, rate=None):
        self.file = f"{folder}/load.json"
        command = [f"{options.bin_dir}/hp-bench", address, str(options.connections), "-t", "1", "-q"]
        command += ["-d", f"{seconds}s", "--warmup", "500ms", "--json", self.file]
        command += ["-R", str(rate)] if rate else []
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        time.sleep(0.5)

    def goes_on(self):
        return self.process.poll() is None

    def result(self):
        _, said = self.process.communicate(timeout=BOUND_S * 4)
        try:
            with open(self.file, encoding="utf-8") as file:
                seen = json.load(file)
        except (OSError, ValueError) as error:
            raise Failed(f"hp-bench ended with {self.process.returncode}: {said.strip()}") from error
        failed = sum(seen["errors"].values()) + sum(
            count for status, count in seen["status"].items() if status != "2xx"
        )
        if failed:
            print(f"hp-bench: errors {seen['errors']}, statuses {seen['status']}", file=sys.stderr)
        return {
            "answers": seen["run"]["responses"],
            "rps": seen["run"]["rps"],
            "failed": failed,
            "opened": seen["run"]["connections_opened"],
            "p50_us": seen["latency_ns"]["p"]["50"] / 1000,
            "p99_us": seen["latency_ns"]["p"]["99"] / 1000,
        }


def measure(options, folder):
    """All pairs, and what the WebSockets met meanwhile."""
    echo = [f"{options.bin_dir}/hp-echo", "--workers", "1", "--engine", "epoll", "--listen", "127.0.0.1:0"]
    servers = []
    websocket_server = WebSocketServer()
    try:
        for _ in range(3):
            servers.append(Server(echo))
        proxy = Proxy(options, folder, [server.address for server in servers], websocket_server.address)
        try:
            rate = options.rate or int(Load(options, folder, proxy.address, 2).result()["rps"] / 2)
            websockets = WebSockets(proxy.address, options.websockets)
            try:
                pairs = all_pairs(options, folder, proxy, rate)
            finally:
                websockets.end()
        finally:
            code = proxy.end()
    finally:
        websocket_server.end()
        for server in servers:
            server.end()
    return {
        "engine": options.engine,
        "workers": options.workers,
        "rate": rate,
        "connections": options.connections,
        "close_spread": options.close_spread,
        "pairs": pairs,
        "websockets": {
            "count": options.websockets,
            "messages": websockets.messages,
            "slowest_s": round(websockets.slowest_s, 3),
            "faults": websockets.faults,
        },
        "exit_code": code,
    }


def all_pairs(options, folder, proxy, rate):
    """Pairs of every kind, each a round without changes and one with; of nothing, two without."""
    chance = random.Random(options.seed)
    changes = {"nothing": 0, "reload": -(-options.reloads // options.pairs), "upgrade": -(-options.upgrades // options.pairs)}
    again = len(changes) * options.pairs
    motions = {**changes, "nothing": changes["reload"]}
    pairs = []
    for _ in range(options.pairs):
        for kind in chance.sample(list(changes), len(changes)):
            while True:
                order = chance.sample((0, 1), 2)
                rounds = {
                    one: play(options, folder, proxy, (rate, kind, motions[kind], bool(changes[kind] and one))) for one in order
                }
                pair = {"kind": kind, "without": rounds[0], "with": rounds[1]}
                pairs.append(pair)
                pair["is_disturbed"] = again > 0 and max(one["stolen"] for one in rounds.values()) > STOLEN_MAX
                if not pair["is_disturbed"]:
                    break
                again -= 1
    return pairs


def play(options, folder, proxy, scene):
    """One round: so many changes, or motions of them, evenly over its seconds."""
    rate, kind, motions, is_meant = scene
    load = Load(options, folder, proxy.address, options.seconds, rate)
    begun, stolen = time.monotonic(), stolen_ticks()
    done = 0
    for number in range(motions):
        time.sleep(max(0.0, begun + options.seconds * number / motions - time.monotonic()))
        if not is_meant:
            proxy.pretend(kind, number % 2 == 0)
            continue
        if kind == "reload":
            proxy.reload(number % 2 == 0)
        else:
            proxy.upgrade()
        done += 1
    if done and not load.goes_on():
        print("the last changes came after the load; give more --seconds", file=sys.stderr)
    seen = load.result() | {"kind": kind, "changes": done}
    share = (stolen_ticks() - stolen) / TICKS / (time.monotonic() - begun) / os.cpu_count()
    seen["stolen"] = round(share, 4)
    print(
        f"{kind:8} {done:4} changes  {seen['answers']:9} answers  {seen['failed']:3} failed  {seen['opened']:5} connections"
        f"  p50 {seen['p50_us']:8.0f} us  p99 {seen['p99_us']:8.0f} us  stolen {share:5.1%}",
        flush=True,
    )
    time.sleep(ROUND_REST_S)
    return seen


def judge(options, seen):
    """What was promised and did not come true, a line each."""
    faults = list(seen["websockets"]["faults"])
    failed = sum(pair[side]["failed"] for pair in seen["pairs"] for side in ("without", "with"))
    if failed:
        faults.append(f"{failed} requests failed")
    for kind in ("nothing", "reload", "upgrade"):
        kept = [pair for pair in seen["pairs"] if pair["kind"] == kind and not pair["is_disturbed"]]
        ratio, low, high = paired(
            [(pair["without"]["p99_us"], pair["with"]["p99_us"]) for pair in kept], random.Random(options.seed)
        )
        seen[f"p99_ratio_{kind}"] = [round(value, 3) for value in (ratio, low, high)]
        print(f"{kind}: p99 {ratio:.2f} of that without [{low:.2f}, {high:.2f}], {len(kept)} pairs")
        if kind != "nothing" and ratio > P99_FACTOR_MAX:
            faults.append(f"p99 with {kind}s is more than {P99_FACTOR_MAX} times that without")
    if seen["exit_code"]:
        faults.append(f"hp-proxy ended with {seen['exit_code']}")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--bin-dir", default="target/release")
    parser.add_argument("--engine", default="uring", choices=["uring", "epoll", "threads"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--websockets", type=int, default=20)
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--upgrades", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=15, help="pairs of rounds of each kind")
    parser.add_argument("--seconds", type=int, default=3, help="length of a round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=int, help="requests per second [default: half of what is possible]")
    parser.add_argument("--close-spread", default="1s", help="over how long a replaced process tells its clients to go; 0: at once")
    parser.add_argument("--json", help="a file for what was seen")
    options = parser.parse_args()
    if min(options.workers, options.connections, options.pairs, options.seconds) < 1:
        parser.error("--workers, --connections, --pairs and --seconds: at least 1")
    if min(options.reloads, options.upgrades, options.websockets) < 1:
        parser.error("--reloads, --upgrades and --websockets: at least 1")
    end_all_when_asked()
    try:
        with tempfile.TemporaryDirectory() as folder:
            seen = measure(options, folder)
    except Failed as failure:
        print(f"live_changes.py: {failure}", file=sys.stderr)
        return 1
    faults = judge(options, seen)
    websockets = seen["websockets"]
    print(f"WebSockets: {websockets['messages']} messages, the slowest turn {websockets['slowest_s']} s")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(seen | {"faults": faults}, file, indent=1)
    for fault in faults:
        print(f"live_changes.py: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
