"""Programs that the scripts beside this file start: until they listen, what they take, and how they end."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

READY = "listening on "
BOUND_S = 30  # For a start, and for an end.
TICKS = os.sysconf("SC_CLK_TCK")
BIN_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "target", "release")


class Failed(Exception):
    """Says what, where, and what to do."""


class Server:
    """A program that says where it listens, a line on stderr for each address; ended with the block, or by end()."""

    def __init__(self, command, cpu=None, listeners=1):
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=pinned(cpu))
        self.addresses = []
        giving_up = threading.Timer(BOUND_S, self.process.kill)
        giving_up.start()
        try:
            for line in self.process.stderr:
                if line.startswith(READY):
                    self.addresses.append(line[len(READY):].strip())
                if len(self.addresses) == listeners:
                    break
        finally:
            giving_up.cancel()
        if len(self.addresses) < listeners:
            end(self.process)
            raise Failed(f"{command[0]}: it ended before it listened")
        # What it says later is read, so that it never waits for a full pipe.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    @property
    def address(self):
        return self.addresses[0]

    def __enter__(self):
        return self.address

    def __exit__(self, *_):
        self.end()

    def end(self):
        end(self.process)


class SilentServer:
    """A program that says nothing when it listens: its port is tried until it takes a connection."""

    def __init__(self, command, port, cpu=None):
        self.port = port
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=pinned(cpu)
        )
        deadline = time.monotonic() + BOUND_S
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.end()
                raise Failed(f"{command[0]}: it does not listen on port {port}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)

    def end(self):
        end(self.process)


def end_all_when_asked():
    """SIGTERM unwinds as Ctrl-C does, so that no program that was started is left behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def end(process):
    """Asks a child to end, and ends it where it does not. By its handle, so it is never another process with its number."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=BOUND_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def pinned(cpu):
    """What a child does before it begins, so that it runs on this CPU alone; None for no CPU."""
    return None if cpu is None else lambda: os.sched_setaffinity(0, {cpu})


def bounded(parser, options, bounds):
    """Refuses flags beyond what they take: each with the most of it."""
    for name, most in bounds.items():
        if not 1 <= getattr(options, name.lstrip("-").replace("-", "_")) <= most:
            parser.error(f"{name} takes 1 to {most}")


def seats(parser, why):
    """A CPU for the server alone, and one for the rest."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        parser.error(f"it needs two CPUs: {why}")
    return cpus[0], cpus[1]


def free_port():
    """A port of 127.0.0.1 that nobody had a moment ago."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def cpu_seconds(pid):
    """User and system time of a process and its threads: in ns by the scheduler where the kernel tells it, else in ticks."""
    total = 0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as stat:
                total += int(stat.read().split()[0])
    except (FileNotFoundError, ValueError):
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    return total / 1e9


def stolen_ticks(cpu=""):
    """How long a virtual CPU, or all of them, were not ours, in ticks since the start (proc(5), /proc/stat)."""
    with open("/proc/stat", encoding="ascii") as file:
        for line in file:
            if line.startswith(f"cpu{cpu} "):
                return int(line.split()[8])
    raise Failed(f"/proc/stat: it has no cpu{cpu}")


def pss_bytes(pid):
    """Memory of a process, shared pages divided by their users."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
        for line in rollup:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    raise Failed(f"/proc/{pid}/smaps_rollup: it has no line Pss")
