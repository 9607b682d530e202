#!/usr/bin/env python3
"""Public conformance suites against hp-proxy: what others wrote down, unmodified, from checkouts that you name.

  harness/conformance.py [--bin-dir DIR] [--engine E] [--only SUITE] [--mutations N] [--seed N] [-v]

  H1SPEC=DIR       a checkout of github.com/uNetworking/h1spec; needs node
  LLHTTP=DIR       a checkout of github.com/nodejs/llhttp; node evaluates the few inputs that are written as code
  HTTP_GARDEN=DIR  a checkout of github.com/narfindustries/http-garden

A suite whose checkout is not named is told and left out. Nothing of a suite is kept here: cases are read where they are.
Exit 0 when nothing failed, 1 when something did, 2 misuse. Everything is on 127.0.0.1 and free ports; every wait has an end.
"""

import argparse
import ast
import importlib
import json
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

from process import end_all_when_asked

WAIT = 10.0  # Seconds that any one wait may take.


# -- programs -----------------------------------------------------------------------------------------


class Program:
    """One of our servers on a free port."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        found = threading.Event()
        self.address = None

        def read():
            for line in self.process.stderr:
                if not found.is_set() and "listening on " in line:
                    host, port = line.split("listening on ")[1].split()[0].rsplit(":", 1)
                    self.address = (host, int(port))
                    found.set()
            found.set()

        threading.Thread(target=read, daemon=True).start()
        if not found.wait(WAIT) or self.address is None:
            self.process.kill()
            raise SystemExit(f"conformance: {command[0]} did not say where it listens")

    def end(self):
        self.process.terminate()
        try:
            return self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class Setting:
    """hp-proxy before a backend: hp-echo where none is given."""

    def __init__(self, options, backend=None):
        self.programs = []
        flags = ["--listen", "127.0.0.1:0", "--workers", "1", "--engine", options.engine]
        if backend is None:
            backend = self.start(options.bin_dir / "hp-echo", *flags)
        name = f"{backend[0]}:{backend[1]}"
        self.proxy = self.start(options.bin_dir / "hp-proxy", *flags, "--backend", name)

    def start(self, program, *flags):
        self.programs.append(Program(str(program), *flags))
        return self.programs[-1].address

    def __enter__(self):
        return self

    def __exit__(self, *_):
        codes = [program.end() for program in reversed(self.programs)]
        if any(codes):
            raise SystemExit(f"conformance: a program ended with status {max(codes)}")


class Answer:
    """All that came back on one connection."""

    REFUSAL = re.compile(rb"HTTP/1\.1 [45]\d\d [^\r]*\r\n(?:[^\r]+\r\n)*?Proxy-Status: hp-proxy; [^\r]*details=\"([^\"]*)\"")

    def __init__(self):
        self.bytes = bytearray()
        self.is_reset = False
        self.is_endless = False

    def refusal(self):
        """Why the proxy refused: the reason that it gave, or that it tore an answer that had begun; None if it did not."""
        found = self.REFUSAL.search(self.bytes)
        if found:
            return found[1].decode()
        return "torn" if self.is_reset else None


def ask(address, pieces):
    """Sends everything, then FIN, and reads to the end."""
    answer = Answer()
    with socket.create_connection(address, WAIT) as conn:
        conn.settimeout(WAIT)
        try:
            for piece in pieces:
                conn.sendall(piece)
            conn.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # It has judged and closed before it has read all.
        try:
            while part := conn.recv(65536):
                answer.bytes += part
        except TimeoutError:
            answer.is_endless = True
        except OSError:
            answer.is_reset = True
    return answer


REQUEST_LINE = re.compile(rb"(?P<line>^[^\s:]+ (?:[a-zA-Z]+://(?P<authority>[^/?# \r\n]*))?[^\r\n]*HTTP/1\.1\r\n)", re.M)


def with_host(request):
    """The same with a Host behind each request line: suites leave it out, and without one nothing else would be judged."""
    return REQUEST_LINE.sub(lambda found: found["line"] + b"Host: " + (found["authority"] or b"a") + b"\r\n", request)


# -- h1spec -------------------------------------------------------------------------------------------

H1SPEC_SHIM = r"""
const net = require('node:net');
globalThis.Deno = {
  args: process.argv.slice(2),
  exit: (code) => { process.exitCode = code; },
  connect: ({ hostname, port }) => new Promise((resolve, reject) => {
    const socket = net.connect(port, hostname);
    let held = [], waiting = null, isEnded = false, failure = null;
    const serve = () => {
      if (!waiting || (!held.length && !isEnded)) return;
      const { buffer, resolve, reject } = waiting;
      waiting = null;
      socket.unref(); // In Deno an open connection does not keep the program running.
      if (held.length) {
        const bytes = Buffer.concat(held);
        const count = bytes.copy(buffer);
        held = count < bytes.length ? [bytes.subarray(count)] : [];
        resolve(count);
      } else if (failure) reject(failure);
      else resolve(null);
    };
    socket.on('data', (bytes) => { held.push(bytes); serve(); });
    socket.on('error', (error) => { failure = error; isEnded = true; reject(error); serve(); });
    socket.on('close', () => { isEnded = true; serve(); });
    socket.on('connect', () => resolve({
      write: (bytes) => new Promise((done) => socket.write(bytes, () => done(bytes.length))),
      read: (buffer) => new Promise((resolve, reject) => { waiting = { buffer, resolve, reject }; serve(); }),
      close: () => { failure = new Error('closed here'); socket.destroy(); },
    }));
  }),
};
"""


def without_types(source):
    """TypeScript as JavaScript, for the few forms that this suite has; strings are left as they are."""
    source = re.sub(r"^interface \w+ \{.*?^\}", "", source, flags=re.M | re.S)
    parts = re.split(r"(\"(?:[^\"\\]|\\.)*\"|`(?:[^`\\]|\\.)*`|//[^\n]*)", source)
    annotation = re.compile(r":\s*(?:TestCase|string|number|boolean|Promise<\w+>)(?:\[\])?(?=\s*[,)={])")
    generic = re.compile(r"\bPromise<\w+>\(")
    return "".join(part if index % 2 else generic.sub("Promise(", annotation.sub("", part)) for index, part in enumerate(parts))


def h1spec(checkout, options):
    source = (checkout / "http_test.ts").read_text()
    with Setting(options) as setting, tempfile.TemporaryDirectory() as folder:
        script = pathlib.Path(folder) / "h1spec.js"
        script.write_text(H1SPEC_SHIM + without_types(source))
        host, port = setting.proxy
        ran = subprocess.run([options.node, script, host, str(port)], capture_output=True, text=True, timeout=60)
    said = ran.stdout + ran.stderr
    total = re.search(r"(\d+) out of (\d+) tests passed", said)
    tally = Tally("h1spec")
    if not total:
        tally.fail(f"it did not run: {said.strip()[-400:]}")
        return tally
    tally.passed = int(total[1])
    failed = [line for line in said.splitlines() if line.startswith("❌")]
    unnamed = ["a case that it does not name"] * (int(total[2]) - tally.passed - len(failed))
    for case in failed + unnamed:
        tally.fail(case)
    if options.verbose:
        print(said)
    return tally


# -- llhttp -------------------------------------------------------------------------------------------

# What we refuse and llhttp takes, by our reason, and what it refuses and we take, by its reason. docs/conformance.md says why.
STRICTER = {
    "bad_target",
    "bad_transfer_encoding",
    "bad_version",
    "body_forbidden",
    "interim_with_body",
    "this proxy opens no tunnels",
    "unsupported_transfer_coding",
}
LAXER = {
    "Data after `Connection: close`",
    "lenient-data-after-close",
    "lenient-keep-alive",
    "Expected space after method",
    "Invalid method for HTTP/x.x request",
}


def llhttp_cases(checkout, kind):
    """(name, type, input, log) of each case, in the order of the files."""
    for path in sorted((checkout / "test" / kind).glob("*.md")):
        text = path.read_text()
        title, cases = "", re.finditer(r"^#+ (?P<title>[^\n]*)$|^<!-- meta=(?P<meta>\{[^\n]*\}) -->\n```http\n(?P<input>.*?)^```\s+```log\n(?P<log>.*?)^```", text, re.M | re.S)
        for case in cases:
            if case["title"]:
                title = case["title"]
            else:
                meta = json.loads(case["meta"])
                # These are about the parser's interface, not about what a message means.
                if not (meta["type"].endswith("-finish") or "skipBody" in meta):
                    yield f"{kind}/{path.name}: {title}", meta["type"], case["input"], case["log"]


def llhttp_input(text, node):
    """The bytes that an input means, by the rules of the suite's own runner."""
    text = re.sub(r"\\(\r\n|\r|\n)", "", text.removesuffix("\n"))
    text = re.sub(r"\r\n|\r|\n", "\r\n", text)
    for escape, byte in [("\\r", "\r"), ("\\n", "\n"), ("\\t", "\t"), ("\\f", "\f")]:
        text = text.replace(escape, byte)
    text = re.sub(r"\\x([0-9a-fA-F]+)", lambda found: chr(int(found[1], 16)), text)
    text = re.sub(r"\\([0-7]{1,3})", lambda found: chr(int(found[1], 8)), text)

    def evaluate(found):
        run = subprocess.run([node, "-p", found[1]], capture_output=True, text=True, timeout=WAIT, check=True)
        return run.stdout.removesuffix("\n")

    return re.sub(r"\$\{(.+?)\}", evaluate, text).encode("utf-8")


def llhttp(checkout, options):
    tally = Tally("llhttp")
    with Setting(options) as setting:
        for name, kind, text, log in llhttp_cases(checkout, "request"):
            request = llhttp_input(text, options.node)
            answer = ask(setting.proxy, [request])
            if answer.refusal() == "missing_host":
                request = with_host(request)
                answer = ask(setting.proxy, [request])
            if not answer.bytes and llhttp_errors(log):
                # The input stops within a head, where the proxy waits: with the head's end it has to judge.
                answer = ask(setting.proxy, [request + b"\r\n\r\n"])
            llhttp_judge(tally, name, kind, log, answer)
    with Canned() as backend, Setting(options, backend.address) as setting:
        for name, kind, text, log in llhttp_cases(checkout, "response"):
            backend.answer = llhttp_input(text, options.node)
            answer = ask(setting.proxy, [b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"])
            llhttp_judge(tally, name, kind, log, answer)
    return tally


def llhttp_errors(log):
    errors = re.findall(r'error code=\d+ reason="(.*)"', log)
    return [error for error in errors if not error.startswith("Pause on")]


def llhttp_judge(tally, name, kind, log, answer):
    """Compares refused or taken with the strict verdict; what a case says of leniency is that strictness refuses it."""
    found = answer.refusal()
    if 'reason="Pause on CONNECT/Upgrade"' in log and not answer.REFUSAL.match(answer.bytes):
        found = None  # The rest is for the other protocol, and a backend that declines it reads no request there.
    is_whole = log.rstrip().endswith("message complete")
    if found == "torn" and not is_whole and not llhttp_errors(log):
        found = None  # The case ends in the middle of a body: what is cut off stays cut off.
    leniency = kind.split("-", 1)[1] if "lenient" in kind else None
    errors = llhttp_errors(log)
    if answer.is_endless:
        tally.fail(f"{name}: no end within {WAIT:g} seconds")
    elif bool(found) == bool(errors or leniency):
        tally.passed += 1
    elif found in STRICTER:
        tally.differ(f"stricter: {found}", name)
    elif found is None and (said := errors[-1] if errors else leniency) in LAXER:
        tally.differ(f"laxer: {said}", name)
    else:
        tally.fail(f"{name} ({kind}): {found or 'taken'}, where llhttp says {errors or 'nothing'}")


class Tally:
    """What a suite came to: cases that passed, that differ for a known reason, and that failed."""

    def __init__(self, name):
        self.name, self.passed, self.differences, self.failed = name, 0, {}, []

    def differ(self, reason, case):
        self.differences.setdefault(reason, []).append(case)

    def fail(self, case):
        self.failed.append(case)

    def tell(self, is_verbose):
        differing = sum(map(len, self.differences.values()))
        total = self.passed + differing + len(self.failed)
        print(f"{self.name}: {self.passed}/{total} passed, {differing} differ for a known reason, {len(self.failed)} failed")
        for reason, cases in sorted(self.differences.items()):
            print(f"  {len(cases):3} {reason}")
            for case in cases if is_verbose else []:
                print(f"        {case}")
        for case in self.failed:
            print(f"  FAILED {case}")
        return not self.failed


class Canned:
    """A backend that says the same bytes to whoever asks, then ends."""

    answer = b""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def serve(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            with conn:
                conn.settimeout(WAIT)
                try:
                    conn.recv(65536)
                    conn.sendall(self.answer)
                    conn.shutdown(socket.SHUT_WR)
                    while conn.recv(65536):
                        pass
                except OSError:
                    pass  # The proxy has judged and left.


# -- HTTP Garden --------------------------------------------------------------------------------------


class Witness:
    """A backend that keeps what it was sent and reads it by the grammar and nothing else."""

    def __init__(self):
        self.lock = threading.Lock()
        self.complaints = []
        self.requests = 0

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=[conn], daemon=True).start()

    def serve(self, conn):
        held = b""
        with conn:
            while True:
                try:
                    read = plain_request(held)
                except ValueError as ambiguity:
                    with self.lock:
                        self.complaints.append(f"{ambiguity}: {held[:300]!r}")
                    return
                try:
                    if read:
                        with self.lock:
                            self.requests += 1
                        held = held[read:]
                        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                        continue
                    part = conn.recv(65536)
                except OSError:
                    return
                if not part:
                    return  # What is cut off here is no whole request, and must not be taken for one.
                held += part

    def take(self):
        """Requests read and complaints made since the last call."""
        with self.lock:
            taken = self.requests, self.complaints
            self.requests, self.complaints = 0, []
        return taken


TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
HEAD = re.compile(rb"(" + TOKEN + rb") ([!-~]+) HTTP/1\.1\r\n((?:" + TOKEN + rb": ?[\t -~\x80-\xff]*\r\n)*)\r\n")
CHUNK = re.compile(rb"(0|[1-9a-f][0-9a-f]{0,15})\r\n")
TRAILERS = re.compile(rb"(?:" + TOKEN + rb": ?[\t -~\x80-\xff]*\r\n)*\r\n")


def plain_request(held):
    """Length of the request that the bytes begin with, 0 while it is not whole.

    Raises ValueError for all that two readers could read differently."""
    end = held.find(b"\r\n\r\n")
    if re.search(rb"[^\r]\n|\r[^\n]|\0", held if end < 0 else held[: end + 4]):
        raise ValueError("a line does not end in CRLF, or holds NUL")
    if end < 0:
        return 0
    head = HEAD.match(held)
    if not head or head.end() != end + 4:
        raise ValueError("the head is not by the grammar")
    fields = [line.split(b":", 1) for line in head[3].split(b"\r\n") if line]
    values = lambda wanted: [value.strip(b" \t") for name, value in fields if name.lower() == wanted]
    lengths, codings = values(b"content-length"), values(b"transfer-encoding")
    if len(values(b"host")) != 1:
        raise ValueError("not one Host")
    if len(lengths) + len(codings) > 1:
        raise ValueError("more than one framing")
    if codings:
        if codings != [b"chunked"]:
            raise ValueError("a coding that is not chunked")
        return chunked_end(held, head.end())
    if not lengths:
        return head.end()
    if not re.fullmatch(rb"0|[1-9][0-9]{0,18}", lengths[0]):
        raise ValueError("a length that is not plain")
    end = head.end() + int(lengths[0])
    return end if end <= len(held) else 0


def chunked_end(held, at):
    while True:
        line = CHUNK.match(held, at)
        if not line:
            if b"\r\n" in held[at:] or len(held) > at + 17:
                raise ValueError("a chunk size that is not plain")
            return 0
        size = int(line[1], 16)
        if size == 0:
            rest = TRAILERS.match(held, line.end())
            if rest:
                return rest.end()
            if b"\r\n\r\n" in held[line.end() - 2 :]:
                raise ValueError("trailers that are not by the grammar")
            return 0
        at = line.end() + size + 2
        if len(held) < at:
            return 0
        if held[at - 2 : at] != b"\r\n":
            raise ValueError("a chunk that does not end where it says")


def garden_payloads(checkout):
    """The payloads of the bugs that the suite's authors found, as they wrote them down."""
    for text in re.findall(r"^ *- Payload: `(.*)`\s*$", (checkout / "TROPHIES.md").read_text(), re.M):
        quoted = "b'" + text.replace("'", "\\'") + "'"
        try:
            yield ast.literal_eval(quoted)
        except (SyntaxError, ValueError):
            yield text.encode().decode("unicode_escape").encode("latin1", "replace")


GARDEN_SEEDS = [
    [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789"],
    [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n"],
    [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: u\r\n\r\n"],
]


def garden_streams(checkout, options):
    """(name, pieces): each payload as it is and with a Host, then mutations of them and of plain requests."""
    payloads = list(garden_payloads(checkout))
    for number, payload in enumerate(payloads):
        yield f"payload {number}", [payload]
        yield f"payload {number} with a Host", [with_host(payload)]
    sys.path.insert(0, str(checkout / "tools"))
    sys.dont_write_bytecode = True
    try:
        mutations = importlib.import_module("mutations")
    except (ImportError, SyntaxError) as error:
        print(f"http-garden: without mutations, since this Python does not run them ({type(error).__name__}); they need 3.12")
        return
    random.seed(options.seed)
    seeds = GARDEN_SEEDS + [[with_host(payload)] for payload in payloads]
    for number in range(options.mutations):
        pieces = list(random.choice(seeds))
        for _ in range(random.randint(1, 4)):
            pieces = mutations.mutate(pieces)
        yield f"mutation {number} of seed {options.seed}", pieces


def http_garden(checkout, options):
    tally = Tally("http-garden")
    with Witness() as witness, Setting(options, witness.address) as setting:
        for name, pieces in garden_streams(checkout, options):
            answer = ask(setting.proxy, pieces)
            requests, complaints = witness.take()
            answers = len(re.findall(rb"HTTP/1\.1 200 OK\r\n", answer.bytes))
            if answer.is_endless:
                tally.fail(f"{name}: no end within {WAIT:g} seconds: {pieces!r}")
            elif complaints:
                tally.fail(f"{name}: the backend got {complaints[0]}, from {pieces!r}")
            elif answers > requests:
                tally.fail(f"{name}: {answers} answers to {requests} requests: {pieces!r}")
            else:
                tally.passed += 1
    _requests, complaints = witness.take()
    for complaint in complaints:
        tally.fail(f"after the last case the backend got {complaint}")
    return tally


# -- command line -------------------------------------------------------------------------------------

SUITES = {
    "h1spec": (h1spec, "H1SPEC", "http_test.ts", "https://github.com/uNetworking/h1spec"),
    "llhttp": (llhttp, "LLHTTP", "test/request", "https://github.com/nodejs/llhttp"),
    "http-garden": (http_garden, "HTTP_GARDEN", "tools/mutations.py", "https://github.com/narfindustries/http-garden"),
}


def arguments():
    default = pathlib.Path(__file__).resolve().parent.parent / "target" / "release"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin-dir", type=pathlib.Path, default=default, help="where hp-proxy and hp-echo are")
    parser.add_argument("--engine", choices=["auto", "uring", "epoll", "threads"], default="auto")
    parser.add_argument("--only", choices=SUITES, help="one suite")
    parser.add_argument("--mutations", type=int, default=2000, help="how many for http-garden (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (default %(default)s)")
    parser.add_argument("-v", "--verbose", action="store_true", help="name the cases that differ")
    options = parser.parse_args()
    end_all_when_asked()
    options.node = shutil.which("node")
    for program in ["hp-proxy", "hp-echo"]:
        if not os.access(options.bin_dir / program, os.X_OK):
            parser.error(f"no {program} in {options.bin_dir} (build it, or name the directory with --bin-dir)")
    return parser, options


def main():
    parser, options = arguments()
    are_fine = True
    for name, (suite, variable, part, source) in SUITES.items():
        given = os.environ.get(variable)
        if options.only not in (None, name):
            continue
        if not given:
            print(f"{name}: not given; set {variable} to a checkout of {source}")
        elif not (pathlib.Path(given) / part).exists():
            parser.error(f"{variable}={given}: no {part} there; is it a checkout of {source}?")
        elif name != "http-garden" and not options.node:
            print(f"{name}: left out, since it needs node, which is not installed")
        else:
            are_fine &= suite(pathlib.Path(given), options).tell(options.verbose)
    sys.exit(0 if are_fine else 1)


if __name__ == "__main__":
    main()
