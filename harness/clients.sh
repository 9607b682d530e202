#!/usr/bin/env bash
# Programs that nobody here wrote, through hp-proxy: each client, on each engine, before each kind of backend.
#
#   harness/clients.sh [--quick] [--strict] [--bin-dir DIR] [--engine E] [--backend B] [--only TEXT] [--keep]
#
#   --quick      smaller bodies, shorter loads, and none of them twice: a minute, for CI
#   --strict     a program that is not installed, or an engine that is not allowed, is a failure
#   --bin-dir    where hp-proxy and hp-echo are (or BIN_DIR; default target/release of this project)
#   --engine     uring, epoll or threads only   --backend  echo, pyecho, nginx, python4 or none only
#   --only       checks whose name holds TEXT   --keep     leave the logs, and say where
#
# Prints one row a check: engine backend client result detail. Exit 0 when none failed, 1 when one did, 2 misuse.
# Everything is on 127.0.0.1 and free ports; every wait has an end; only processes started here are ended.
set -u

# -- options ----------------------------------------------------------------------------------------

usage() { sed -n '2,/^set -u/{/^set -u/d;s/^# \{0,1\}//;p}' "$0"; }
misuse() {
  printf 'clients.sh: %s; --help lists the options\n' "$*" >&2
  exit 2
}

bin_dir=${BIN_DIR:-$(dirname "$0")/../target/release}
engines='uring epoll threads' backends='echo pyecho nginx python4 none'
is_quick=false is_strict=false is_kept=false only=''
while [ $# -gt 0 ]; do
  case $1 in
    --quick) is_quick=true ;;
    --strict) is_strict=true ;;
    --keep) is_kept=true ;;
    --bin-dir | --engine | --backend | --only)
      [ $# -ge 2 ] || misuse "$1 wants a value"
      case $1 in
        --bin-dir) bin_dir=$2 ;;
        --engine) engines=$2 ;;
        --backend) backends=$2 ;;
        --only) only=$2 ;;
      esac
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) misuse "unknown option $1" ;;
  esac
  shift
done
for one in $engines; do case $one in uring | epoll | threads) ;; *) misuse "--engine $one: write uring, epoll or threads" ;; esac; done
for one in $backends; do
  case $one in echo | pyecho | nginx | python4 | none) ;; *) misuse "--backend $one: write echo, pyecho, nginx, python4 or none" ;; esac
done
proxy_program=$bin_dir/hp-proxy echo_program=$bin_dir/hp-echo
[ -x "$proxy_program" ] || misuse "no hp-proxy in $bin_dir (build it, or name the directory with --bin-dir)"

if $is_quick; then
  body_mib=16 load_seconds=3 chaos_seconds=3 ab_requests=2000 ab_slow_requests=2000 hey_requests=2000 siege_rounds=8
else
  body_mib=100 load_seconds=30 chaos_seconds=12 ab_requests=4000 ab_slow_requests=4000 hey_requests=20000 siege_rounds=80
fi
body_bytes=$((body_mib * 1024 * 1024))
# The last word on any client: longer than all of the proxy's own timeouts for one request.
client_seconds=$((load_seconds + 60))

# -- processes --------------------------------------------------------------------------------------

tmp=$(mktemp -d) || exit 1
mkdir "$tmp/home" "$tmp/logs"
started=()

is_gone() { [ ! -e "/proc/$1" ] || grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }

# Waits until a condition holds: $1 tenths of a second at most.
within() {
  local tries=$(($1 * 4))
  shift
  until "$@"; do
    [ "$tries" -gt 0 ] || return 1
    tries=$((tries - 1))
    sleep 0.025
  done
}

# Starts a program in the background: log's name, command. Sets $pid and $log.
start() {
  log=$tmp/logs/$1.log
  shift
  : >"$log" # Before anybody looks into it.
  "$@" >>"$log" 2>&1 </dev/null &
  pid=$!
  started+=("$pid")
}

# Takes a process off the list and returns its exit status. It must have ended or been told to.
reap() {
  local status=0 other rest=()
  wait "$1" 2>/dev/null || status=$?
  for other in "${started[@]}"; do [ "$other" = "$1" ] || rest+=("$other"); done
  started=(${rest[@]+"${rest[@]}"})
  return "$status"
}

# Signals a process, but none that has taken its number since: signal, process.
tell() { grep -q "^PPid:[[:space:]]*$$\$" "/proc/$2/status" 2>/dev/null && kill "-$1" "$2" 2>/dev/null; }

# Ends a process without ceremony.
end() {
  tell TERM "$1"
  within 20 is_gone "$1" || tell KILL "$1"
  reap "$1"
  return 0
}

cleanup() {
  local status=$? pid
  trap '' INT TERM HUP
  for pid in ${started[@]+"${started[@]}"}; do tell TERM "$pid"; done
  for pid in ${started[@]+"${started[@]}"}; do within 10 is_gone "$pid" || tell KILL "$pid"; done
  if $is_kept; then printf 'logs: %s\n' "$tmp"; else rm -rf "$tmp"; fi
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# A port that nobody listens on now; taken again a moment later, a server says so and fails its check.
free_port() {
  local port tries=100
  while [ "$tries" -gt 0 ]; do
    port=$((20000 + RANDOM % 12000))
    if ! cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q "$(printf ':%04X [0-9A-F]*:0000 0A ' "$port")"; then
      printf '%s\n' "$port"
      return
    fi
    tries=$((tries - 1))
  done
  return 1
}

# -- rows -------------------------------------------------------------------------------------------

row_format='%-6s %-8s %-24s %-7s %s\n'
failures=0 engine='-' backend='-' detail='' work=$tmp/work

# One check: its name, the function and its arguments. The function sets $detail and returns 0, 1, or 77 for skipped.
check() {
  local client=$1 status=0 begun=${EPOCHREALTIME/[.,]/} result
  shift
  case $client in *"$only"*) ;; *) return 0 ;; esac
  rm -rf "$work" && mkdir "$work"
  detail=''
  "$@" || status=$?
  case $status in
    0) result=ok ;;
    77)
      result=skipped
      if $is_strict; then result=failed; fi
      ;;
    *) result=failed ;;
  esac
  [ "$result" != failed ] || failures=$((failures + 1))
  # shellcheck disable=SC2059 # the format is ours
  printf "$row_format" "$engine" "$backend" "$client" "$result" \
    "$detail [$(((${EPOCHREALTIME/[.,]/} - begun) / 1000)) ms]"
}

# A check for which --quick has no time, for another row says nearly the same.
check_in_full() { $is_quick || check "$@"; }

missing() {
  detail="(not installed) $1"
  return 77
}
fail() {
  detail="$*"
  return 1
}
has() { command -v "$1" >/dev/null 2>&1; }
sha() { sha256sum "$@" | cut -d ' ' -f 1; }

# Runs a client with the last word on its time: standard output in $work/out, errors in $work/err.
client() { HOME=$tmp/home timeout -k 5 "$client_seconds" "$@" >"$work/out" 2>"$work/err" </dev/null; }
# The end of what the last client said, for a failed row.
said() { tail -qn 3 "$work/err" "$work/out" 2>/dev/null | tr -cd '[:print:]\n' | tr '\n' ' ' | cut -c 1-240; }

# -- files, and programs in Python ------------------------------------------------------------------

make_files() {
  mkdir "$tmp/www" || return
  head -c 1024 /dev/urandom | base64 -w 0 | head -c 1024 >"$tmp/www/small.txt"
  yes 'a line that compresses well' | head -c 300000 >"$tmp/www/text.txt"
  head -c 1000000 /dev/urandom >"$tmp/www/middle.bin"
  base64 "$tmp/www/middle.bin" >"$tmp/www/middle.txt"
  head -c "$body_bytes" /dev/urandom >"$tmp/www/big.bin"
  big_sha=$(sha "$tmp/www/big.bin")
}

# An echo of HTTP/1.1 on Python's own server: an independent reading of lengths, chunks and 100-continue.
write_pyecho() {
  cat >"$tmp/pyecho.py" <<'PYTHON'
import hashlib, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = b"0123456789abcdef" * 64
PIECE = 65536


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def head(self, status, fields):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()

    def answer(self, body, status=200):
        self.head(status, {"Content-Length": len(body)})
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        parts = self.path.strip("/").split("/")
        if parts[0] == "delay":
            time.sleep(int(parts[1]) / 1000)
        self.answer(BODY, int(parts[1]) if parts[0] == "status" else 200)

    do_HEAD = do_GET

    def pieces(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while True:
                left = int(self.rfile.readline().split(b";")[0], 16)
                if left == 0:
                    break
                while left:
                    piece = self.rfile.read(min(left, PIECE))
                    left -= len(piece)
                    yield piece
                assert self.rfile.readline() == b"\r\n"
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
        else:
            left = int(self.headers.get("Content-Length", 0))
            while left:
                piece = self.rfile.read(min(left, PIECE))
                assert piece, "cut short"
                left -= len(piece)
                yield piece

    def do_POST(self):
        if self.path == "/digest":
            digest, total = hashlib.sha256(), 0
            for piece in self.pieces():
                digest.update(piece)
                total += len(piece)
            return self.answer(f"{digest.hexdigest()} {total}".encode())
        if "Content-Length" in self.headers:
            self.head(200, {"Content-Length": self.headers["Content-Length"]})
            for piece in self.pieces():
                self.wfile.write(piece)
        else:
            self.head(200, {"Transfer-Encoding": "chunked"})
            for piece in self.pieces():
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

    do_PUT = do_POST


class Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


server = Server(("127.0.0.1", 0), Echo)
print("listening on 127.0.0.1:%d" % server.server_port, flush=True)
server.serve_forever()
PYTHON
}

# Clients in Python. Usage: client.py CHECK HOST:PORT PATH [NUMBER]. Prints the row's detail; 77: requests is missing.
write_python_client() {
  cat >"$tmp/client.py" <<'PYTHON'
import gzip, hashlib, http.client, os, sys, threading, time

check, address, path = sys.argv[1:4]
number = int(sys.argv[4]) if len(sys.argv) > 4 else 0
host, port = address.split(":")
url = f"http://{address}{path}"


def requests_or_skip():
    try:
        import requests
    except ImportError:
        print("(not installed) python3-requests")
        sys.exit(77)
    return requests


def connect():
    return http.client.HTTPConnection(host, int(port), timeout=20)


def http_client():
    conn = connect()
    bodies, locals_ = set(), set()
    for method in ["GET", "HEAD", "GET"] * 10:
        conn.request(method, path)
        locals_.add(conn.sock.getsockname())
        answer = conn.getresponse()
        body = answer.read()
        assert answer.status == 200, answer.status
        if method == "GET":
            bodies.add(body)
        else:
            assert body == b""
        assert int(answer.headers["Content-Length"]) > 0
    assert len(bodies) == 1 and len(locals_) == 1, (len(bodies), len(locals_))
    return "30 requests on 1 connection"


def requests_session():
    requests = requests_or_skip()
    with requests.Session() as session:
        first = session.get(url, timeout=20)
        for _ in range(50):
            again = session.get(url, timeout=20)
            assert (again.status_code, again.content) == (200, first.content)
        assert session.head(url, timeout=20).content == b""
        pools = session.adapters["http://"].poolmanager.pools
        conns = sum(pools[key].num_connections for key in pools.keys())
        assert conns == 1, conns
    return "52 requests on 1 connection"


def requests_streaming():
    requests = requests_or_skip()
    digest, total = hashlib.sha256(), 0
    with requests.get(url, stream=True, timeout=20) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_content(100_000):
            digest.update(piece)
            total += len(piece)
    wanted = os.environ["BIG_SHA"]
    assert digest.hexdigest() == wanted, f"{total} bytes, other than sent"
    return f"{total} bytes"


def generator(digest):
    piece = os.urandom(10_007)
    for _ in range(number // len(piece)):
        digest.update(piece)
        yield piece


def requests_upload():
    """Chunked, by a generator; what comes back is read only when all was sent, so the body is small or digested."""
    requests = requests_or_skip()
    digest = hashlib.sha256()
    answer = requests.post(url, data=generator(digest), timeout=60)
    assert answer.status_code == 200, answer.status_code
    got = answer.text.split()[0] if path == "/digest" else hashlib.sha256(answer.content).hexdigest()
    assert got == digest.hexdigest(), f"other than sent, {len(answer.content)} bytes back"
    return f"{number // 10_007 * 10_007} bytes"


def http_client_upload():
    digest = hashlib.sha256()
    conn = connect()
    conn.request("POST", path, body=generator(digest), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    answer = conn.getresponse()
    body = answer.read()
    assert answer.status == 200, answer.status
    got = body.split()[0].decode() if path == "/digest" else hashlib.sha256(body).hexdigest()
    assert got == digest.hexdigest(), f"other than sent, {len(body)} bytes back"
    return f"{number // 10_007 * 10_007} bytes"


def restarts():
    """Reads files over and over while their server is killed: whole, or refused with 502 or 504, or visibly broken.

    Fast ones, and slow ones that are under way when it dies: framed by length, by chunks (compressed on the way), and
    by the end of the connection (the same for a client of HTTP/1.0).
    """
    wanted = {name: hashlib.sha256(open(f"{path}/{name}", "rb").read()).digest() for name in ("middle.bin", "middle.txt")}
    until = time.monotonic() + number
    counts, worst, lock, wrong = {}, [0.0], threading.Lock(), []

    def one(conn, prefix, name, fields):
        conn.request("GET", prefix + name, headers=fields)
        answer = conn.getresponse()
        body = answer.read()
        if answer.status == 200:
            if answer.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if hashlib.sha256(body).digest() != wanted[name]:
                wrong.append(f"a 200 that looks whole: {len(body)} bytes of {prefix}{name} to {conn._http_vsn_str}")
        return answer.status

    def loop(version, *what):
        def fresh():
            conn = connect()
            conn._http_vsn, conn._http_vsn_str = version, f"HTTP/1.{version - 10}"
            return conn

        conn = fresh()
        while time.monotonic() < until:
            begun = time.monotonic()
            try:
                outcome = one(conn, *what)
            except (http.client.HTTPException, OSError) as error:
                outcome = type(error).__name__
            except Exception as error:
                outcome = type(error).__name__
                wrong.append(f"a 200 that looks whole: {error} in {what} to {version}")
            if version == 10 or outcome != 200:
                conn.close()
                conn = fresh()
            with lock:
                counts[outcome] = counts.get(outcome, 0) + 1
                worst[0] = max(worst[0], time.monotonic() - begun)
            if outcome != 200:
                time.sleep(0.01)

    squeezed = {"Accept-Encoding": "gzip"}
    kinds = [(11, "/", "middle.bin", {})] * 8 + [
        (11, "/slowly/", "middle.bin", {}),
        (11, "/slowly/", "middle.txt", squeezed),
        (10, "/slowly/", "middle.txt", squeezed),
        (10, "/slowly/", "middle.bin", {}),
    ] * 3
    threads = [threading.Thread(target=loop, args=kind) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{counts}, slowest {worst[0] * 1000:.0f} ms", end="")
    assert not wrong, wrong[0]
    allowed = {200, 502, 504, "IncompleteRead", "ConnectionResetError"}
    assert set(counts) <= allowed, set(counts) - allowed
    assert counts.get(200, 0) > 100, "hardly any was answered"
    assert counts.get("IncompleteRead", 0) + counts.get("ConnectionResetError", 0) > 0, "none was cut in the middle"
    assert worst[0] < 8, "slower than --connect-timeout and all else explain"
    return ""


try:
    print(globals()[check]())
except Exception as error:
    print(f" {type(error).__name__}: {error}")
    sys.exit(1)
PYTHON
}

# Runs a command in which io_uring_setup(2) answers EPERM, as in most containers.
write_no_uring() {
  cat >"$tmp/no_uring.py" <<'PYTHON'
import ctypes, os, struct, sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
IO_URING_SETUP = 425  # on every architecture but alpha
filters = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in [
        (0x20, 0, 0, 0),  # load the call's number
        (0x15, 0, 1, IO_URING_SETUP),
        (0x06, 0, 0, 0x00050001),  # EPERM
        (0x06, 0, 0, 0x7FFF0000),  # allow
    ]
)
buffer = ctypes.create_string_buffer(filters)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
zero = ctypes.c_ulong(0)
if libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) != 0:
    sys.exit(77)
if libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(program), zero, zero) != 0:
    sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
PYTHON
}

# -- servers ----------------------------------------------------------------------------------------

# Waits for `listening on ADDR` in the log of the server just started; sets $address.
listening() {
  local server=$pid
  # shellcheck disable=SC2317 # called by name
  is_ready() { grep -q 'listening on ' "$log" || is_gone "$server"; }
  within 100 is_ready
  address=$(sed -n 's/.*listening on \([^ ]*\).*/\1/p' "$log" | head -n 1)
  [ -n "$address" ]
}

start_echo() {
  start "echo-$engine" "$echo_program" --listen 127.0.0.1:0 --body 1024
  listening && upstream=("$address") && servers=("$pid")
}

start_pyecho() {
  start "pyecho-$engine" python3 -u "$tmp/pyecho.py"
  listening && upstream=("$address") && servers=("$pid")
}

# One process: what is killed is all of it. It runs with our rights, for the files are ours.
write_nginx_config() {
  cat >"$tmp/nginx.conf" <<NGINX
daemon off;
master_process off;
pid $tmp/nginx.pid;
error_log $tmp/logs/nginx-error.log warn;
events { worker_connections 8192; multi_accept on; }
http {
  access_log off;
  client_body_temp_path $tmp/nginx-body;
  proxy_temp_path $tmp/nginx-proxy;
  fastcgi_temp_path $tmp/nginx-fastcgi;
  uwsgi_temp_path $tmp/nginx-uwsgi;
  scgi_temp_path $tmp/nginx-scgi;
  types { text/plain txt; application/octet-stream bin; }
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 65s;
  gzip on;
  gzip_types text/plain;
  gzip_proxied any;
  server {
    listen 127.0.0.1:$1 backlog=4096;
    root $tmp/www;
    location /slowly/ {
      alias $tmp/www/;
      limit_rate 600k;
    }
  }
}
NGINX
}

run_nginx() {
  start "nginx-$engine" nginx -e "$tmp/logs/nginx-error.log" -p "$tmp" -c "$tmp/nginx.conf"
  disown "$pid" # It will be killed, of which bash must not tell.
}

start_nginx() {
  local tries=5
  while [ "$tries" -gt 0 ]; do
    address=127.0.0.1:$(free_port)
    write_nginx_config "${address##*:}"
    run_nginx
    upstream=("$address") servers=("$pid")
    within 50 answers "$address" && return
    end "$pid"
    tries=$((tries - 1))
  done
  return 1
}

answers() { (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null; }

# The first seed's backends: HTTP/1.0, a connection a request, a listen backlog of 5.
start_python4() {
  local number
  upstream=() servers=()
  for number in 1 2 3 4; do
    start "python-$engine-$number" python3 -u -m http.server --bind 127.0.0.1 --directory "$tmp/www" 0
    servers+=("$pid")
  done
  for number in 1 2 3 4; do
    within 100 grep -q 'port [0-9]' "$tmp/logs/python-$engine-$number.log" || return 1
    upstream+=("127.0.0.1:$(sed -n 's/.*port \([0-9]*\).*/\1/p' "$tmp/logs/python-$engine-$number.log" | head -n 1)")
  done
}

# Starts hp-proxy before $upstream with more flags; sets $proxy (its process), $at (its address) and $proxy_log.
start_proxy() {
  local name=$1 one flags=()
  shift
  for one in "${upstream[@]}"; do flags+=(--backend "$one"); done
  start "$name" "$proxy_program" --listen 127.0.0.1:0 --engine "$engine" "${flags[@]}" "$@"
  proxy=$pid proxy_log=$log
  listening && at=$address
}

# SIGTERM must end the proxy with 0, soon when it is idle.
stop_proxy() {
  local status=0 begun=$SECONDS
  is_gone "$proxy" && fail "it had died: $(tail -n 1 "$proxy_log")" && return 1
  tell TERM "$proxy"
  if ! within 350 is_gone "$proxy"; then
    end "$proxy"
    fail 'alive 35 s after SIGTERM'
    return 1
  fi
  reap "$proxy" || status=$?
  detail="exit $status after $((SECONDS - begun)) s"
  [ "$status" -eq 0 ] || return 1
  ! grep -m 1 -i 'panic' "$proxy_log" >"$work/out" || fail "$(cat "$work/out")"
}

# -- curl and wget ----------------------------------------------------------------------------------

curl_() { client curl -sS --max-time "$client_seconds" "$@"; }

curl_get() {
  has curl || { missing curl; return; }
  curl -sS --max-time 20 "http://${upstream[0]}$1" >"$work/direct"
  curl_ -w '%{http_code}' -o "$work/proxied" "http://$at$1" || { fail "$(said)"; return; }
  [ "$(cat "$work/out")" = 200 ] || { fail "status $(cat "$work/out")"; return; }
  cmp "$work/direct" "$work/proxied" >"$work/err" 2>&1 || { fail "not what the backend sends: $(said)"; return; }
  detail="$(wc -c <"$work/proxied") bytes"
}

curl_head() {
  has curl || { missing curl; return; }
  local length
  length=$(curl -sS --max-time 20 "http://${upstream[0]}$1" | wc -c)
  curl_ --head "http://$at$1" || { fail "$(said)"; return; }
  grep -qi "^content-length: $length.\$" "$work/out" || { fail "not the length of GET, $length: $(said)"; return; }
  detail="Content-Length $length"
}

curl_http10() {
  has curl || { missing curl; return; }
  curl_ --http1.0 -o "$work/body" -D "$work/head" "http://$at$1" || { fail "$(said)"; return; }
  head -n 1 "$work/head" | grep -q ' 200' || { fail "$(head -n 1 "$work/head")"; return; }
  ! grep -qi '^transfer-encoding' "$work/head" || { fail 'chunks for a client of HTTP/1.0'; return; }
  detail="$(wc -c <"$work/body") bytes"
}

curl_status() {
  has curl || { missing curl; return; }
  curl_ -o /dev/null -w '%{http_code}' "$2" "$3" "http://$at$1" || { fail "$(said)"; return; }
  detail="status $(cat "$work/out")"
  [ "$(cat "$work/out")" = "$4" ]
}

# Several requests of one curl: one connection.
curl_reuse() {
  has curl || { missing curl; return; }
  local url=http://$at$1 conns
  curl_ -w '%{num_connects}\n' -o /dev/null "$url" -o /dev/null "$url" -o /dev/null "$url" -o /dev/null "$url" \
    -o /dev/null "$url?a=b" || { fail "$(said)"; return; }
  conns=$(awk '{ sum += $1 } END { print sum }' "$work/out")
  detail="5 requests, $conns connections"
  [ "$conns" = 1 ]
}

curl_parallel() {
  has curl || { missing curl; return; }
  local number flags=() want got
  mkdir "$work/many"
  for number in $(seq 40); do flags+=(-o "$work/many/$number" "http://$at$1?$number"); done
  curl_ -Z --parallel-max 20 --fail "${flags[@]}" || { fail "$(said)"; return; }
  want=$(curl -sS --max-time 20 "http://${upstream[0]}$1" | sha256sum | cut -d ' ' -f 1)
  got=$(cat "$work"/many/* | wc -c)
  [ "$(sha "$work"/many/* | sort -u)" = "$want" ] || { fail "$got bytes, not what the backend sends"; return; }
  detail="40 downloads, $got bytes"
}

# A body there and back, compared by its digest: a name for the way, and curl's flags.
curl_post() {
  has curl || { missing curl; return; }
  local before after
  before=$(rss_kib)
  curl_ -w '%{http_code}' -o "$work/back" "$@" "http://$at/" <"$tmp/www/big.bin" || { fail "$(said)"; return; }
  [ "$(cat "$work/out")" = 200 ] || { fail "status $(cat "$work/out")"; return; }
  after=$(rss_kib)
  detail="$(wc -c <"$work/back") bytes; RSS $before -> $after KiB"
  [ "$(sha "$work/back")" = "$big_sha" ] || { fail "other bytes than were sent: $detail"; return; }
  [ $((after - before)) -lt $((32 * 1024)) ] || { fail "RSS grows with the body: $detail"; return; }
}

curl_post_stdin() {
  has curl || { missing curl; return; }
  local status=0
  HOME=$tmp/home timeout -k 5 "$client_seconds" curl -sS --max-time "$client_seconds" -T - -o "$work/back" \
    -w '%{http_code}' "http://$at/" <"$tmp/www/big.bin" >"$work/out" 2>"$work/err" || status=$?
  [ "$status" -eq 0 ] || { fail "$(said)"; return; }
  detail="status $(cat "$work/out"), $(wc -c <"$work/back") bytes"
  [ "$(sha "$work/back")" = "$big_sha" ]
}

curl_expect() {
  has curl || { missing curl; return; }
  curl_ -v -H 'Expect: 100-continue' --expect100-timeout 20 --data-binary "@$tmp/www/middle.bin" -o "$work/back" \
    "http://$at/" || { fail "$(said)"; return; }
  [ "$(sha "$work/back")" = "$(sha "$tmp/www/middle.bin")" ] || { fail 'other bytes than were sent'; return; }
  grep -q '< HTTP/1.1 100' "$work/err" || { fail 'no 100 (Continue) came'; return; }
  detail='100, then 200'
}

curl_big() {
  has curl || { missing curl; return; }
  curl_ -o "$work/big" "http://$at/big.bin" || { fail "$(said)"; return; }
  detail="$(wc -c <"$work/big") bytes"
  [ "$(sha "$work/big")" = "$big_sha" ]
}

curl_range() {
  has curl || { missing curl; return; }
  curl_ -r 1000-99999 -w '%{http_code}' -o "$work/part" "http://$at/middle.bin" || { fail "$(said)"; return; }
  [ "$(cat "$work/out")" = 206 ] || { fail "status $(cat "$work/out")"; return; }
  tail -c +1001 "$tmp/www/middle.bin" | head -c 99000 | cmp - "$work/part" >"$work/err" || { fail "$(said)"; return; }
  curl_ -r 0-9,20-29 -o "$work/parts" -w '%{http_code} %{content_type}' "http://$at/middle.bin" || { fail "$(said)"; return; }
  detail="206; $(cat "$work/out")"
  case $(cat "$work/out") in '206 multipart/byteranges'*) ;; *) return 1 ;; esac
  curl_ -r 9999999- -o /dev/null -w '%{http_code}' "http://$at/middle.bin" || { fail "$(said)"; return; }
  [ "$(cat "$work/out")" = 416 ] || { fail "beyond the end: status $(cat "$work/out")"; return; }
}

curl_gzip() {
  has curl || { missing curl; return; }
  curl_ --compressed -D "$work/head" -o "$work/text" -w '%{size_download}' "http://$at/text.txt" || { fail "$(said)"; return; }
  grep -qi '^content-encoding: gzip' "$work/head" || { fail 'not compressed'; return; }
  cmp "$work/text" "$tmp/www/text.txt" >"$work/err" || { fail "$(said)"; return; }
  detail="300000 bytes as $(cat "$work/out")"
  curl_ --http1.0 -H 'Accept-Encoding: gzip' -o "$work/old" "http://$at/text.txt" || { fail "HTTP/1.0: $(said)"; return; }
  if gzip -t "$work/old" 2>/dev/null; then gzip -dc <"$work/old" >"$work/text"; else mv "$work/old" "$work/text"; fi
  cmp "$work/text" "$tmp/www/text.txt" >"$work/err" || { fail "HTTP/1.0: $(said)"; return; }
  detail="$detail, and by HTTP/1.0"
}

# What the backend's validators say must come back as 304, with nothing behind it on the connection.
curl_conditional() {
  has curl || { missing curl; return; }
  local date etag flags
  curl_ --head "http://$at/small.txt" || { fail "$(said)"; return; }
  date=$(sed -n 's/^last-modified: \(.*\)\r$/\1/Ip' "$work/out")
  etag=$(sed -n 's/^etag: \(.*\)\r$/\1/Ip' "$work/out")
  flags=(-H "If-Modified-Since: $date")
  [ -z "$etag" ] || flags+=(-H "If-None-Match: $etag")
  curl_ "${flags[@]}" -w '%{http_code} %{num_connects} ' -o /dev/null "http://$at/small.txt" -o /dev/null \
    "http://$at/small.txt" || { fail "$(said)"; return; }
  detail="status and connections: $(cat "$work/out")"
  [ "$(cat "$work/out")" = '304 1 304 0 ' ]
}

wget_get() {
  has wget || { missing wget; return; }
  client wget -nv -T 20 -t 1 -O "$work/proxied" "http://$at$1" || { fail "$(said)"; return; }
  curl -sS --max-time 20 "http://${upstream[0]}$1" | cmp - "$work/proxied" >"$work/err" 2>&1 || { fail "$(said)"; return; }
  detail="$(wc -c <"$work/proxied") bytes"
}

wget_spider() {
  has wget || { missing wget; return; }
  client wget --spider -T 20 -t 1 "http://$at$1" || { fail "$(said)"; return; }
  grep -q '200 OK' "$work/err" || { fail "$(said)"; return; }
  detail='200 OK'
}

wget_big() {
  has wget || { missing wget; return; }
  client wget -nv -T 20 -t 1 -O "$work/big" "http://$at/big.bin" || { fail "$(said)"; return; }
  detail="$(wc -c <"$work/big") bytes"
  [ "$(sha "$work/big")" = "$big_sha" ]
}

# -- load -------------------------------------------------------------------------------------------

ab_number() { sed -n "s/^$1[^0-9]*\([0-9]*\).*/\1/p" "$work/out"; }

# ab: path, requests, further flags. Sets $p99.
ab_load() {
  has ab || { missing ab; return; }
  local path=$1 requests=$2
  shift 2
  client ab -q -c 80 -n "$requests" "$@" "http://$at$path" || { fail "$(said)"; return; }
  p99=$(ab_number ' *99%')
  detail="$(ab_number 'Complete requests:') of $requests, $(ab_number 'Failed requests:') failed, $(ab_number 'Requests per second:')/s, 99% $p99 ms, 100% $(ab_number ' *100%') ms"
  detail="$detail$(grep '^Non-2xx\|^Write errors\|(Connect' "$work/out" | tr -s ' \t\n' ' ' | sed 's/^ */; /')"
  [ "$(ab_number 'Complete requests:')" = "$requests" ] && [ "$(ab_number 'Failed requests:')" = 0 ] || return 1
  ! grep -q '^Non-2xx\|^Write errors' "$work/out"
}

ab_keep() {
  ab_load "$1" "$2" -k || return
  local kept
  kept=$(ab_number 'Keep-Alive requests:')
  detail="$detail, $kept kept alive"
  [ "$kept" = "$2" ]
}

syn_retransmits() {
  awk '/^TcpExt:/ { if (!names) { names = split($0, name); next }
         split($0, value); for (i in name) if (name[i] == "TCPSynRetrans") print value[i] }' /proc/net/netstat
}

# The first seed's run: connections that pile up at a backlog of 5 must not wait a second for the next SYN.
ab_python() {
  local before=0
  before=$(syn_retransmits)
  ab_load "$1" "$2" || return
  detail="$detail; SYNs sent again on this machine: $(($(syn_retransmits) - before))"
  [ "$p99" -lt 100 ] || { fail "99% is not under 100 ms: $detail"; return; }
}

wrk_load() {
  has wrk || { missing wrk; return; }
  client wrk -t2 -c512 -d"${load_seconds}s" "http://$at$1" || { fail "$(said)"; return; }
  detail=$(grep -E 'Requests/sec|Socket errors|Non-2xx' "$work/out" | tr -s ' ' | tr '\n' ' ')
  ! grep -qE 'Socket errors|Non-2xx' "$work/out" && grep -q 'Requests/sec' "$work/out"
}

hey_load() {
  has hey || { missing hey; return; }
  client hey -n "$2" -c 100 "http://$at$1" || { fail "$(said)"; return; }
  detail="$(grep -E '\[[0-9]+\].*responses' "$work/out" | tr -s ' \t' ' ' | tr '\n' ' ')$(grep 'Requests/sec' "$work/out" | tr -s ' \t' ' ')"
  grep -qE "\[200\].$2 responses" "$work/out" && ! grep -q 'Error distribution' "$work/out"
}

siege_load() {
  has siege || { missing siege; return; }
  local word
  printf 'parser = false\nlogging = false\nverbose = false\n' >"$work/siegerc"
  for word in close keep-alive; do
    cp "$work/siegerc" "$work/siegerc.$word"
    printf 'connection = %s\n' "$word" >>"$work/siegerc.$word"
    client siege -R "$work/siegerc.$word" -b -c 25 -r "$siege_rounds" "http://$at$1" || { fail "$word: $(said)"; return; }
    # Its report is text or JSON, on either output, as its version pleases.
    tr -d '",\r' <"$work/out" | cat - "$work/err" | tr -s ' \t' ' ' | tr 'FT_' 'ft ' >"$work/report"
    grep -q '^ *failed transactions: 0 *$' "$work/report" && grep -q "^ *transactions: $((25 * siege_rounds))\( \|\$\)" "$work/report" \
      || { fail "$word: $(grep 'transactions:' "$work/report" | tr -s ' \n' ' ')"; return; }
  done
  detail="$((25 * siege_rounds)) with close, as many with keep-alive"
}

python_client() {
  has python3 || { missing python3; return; }
  local status=0 name=$1
  shift
  BIG_SHA=$big_sha client python3 "$tmp/client.py" "$name" "$at" "$@" || status=$?
  detail=$(tr '\n' ' ' <"$work/out" | cut -c 1-300)
  [ "$status" -ne 124 ] || detail="$detail did not end in $client_seconds s"
  return "$status"
}

# -- what the process looks like --------------------------------------------------------------------

rss_kib() { awk '/^VmRSS:/ { print $2 }' "/proc/$proxy/status" 2>/dev/null || echo 0; }
fds() {
  local open=("/proc/$1/fd"/*)
  printf '%s\n' "${#open[@]}"
}

no_hidden_threads() {
  detail="threads: $(sed 's/-[0-9]*$//' "/proc/$proxy"/task/*/comm | sort | uniq -c | tr -s ' ' | tr '\n' ',')"
  ! grep -q '^iou-wrk' "/proc/$proxy"/task/*/comm
}

# Descriptors of an idle proxy, before and after a load: the same once what is idle was closed. A thread without a connection
# keeps its eventfd for ten seconds.
no_leaked_fds() {
  has curl || { missing curl; return; }
  local before number victims=() load=$1 proxy proxy_log at
  start_proxy "fds-$engine-$backend" --upstream-idle-timeout 500ms --keepalive-timeout 500ms ${proxy_flags[@]+"${proxy_flags[@]}"} \
    || { fail 'the proxy did not start'; return; }
  before=$(fds "$proxy")
  if has wrk; then client wrk -t2 -c100 -d1s "http://$at$load"; fi
  curl_ -o /dev/null "http://$at$load"
  # Clients that leave in the middle, of an answer and of a request.
  for number in 1 2 3 4 5 6 7 8; do
    curl -s --max-time 5 --limit-rate 100k -o /dev/null "http://$at$2" </dev/null 2>/dev/null &
    victims+=("$!")
    { printf 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc'; sleep 0.3; } \
      | timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/$1"; cat >&3' "${at%:*}" "${at##*:}" &
    victims+=("$!")
  done
  started+=("${victims[@]}")
  sleep 0.6
  for number in "${victims[@]}"; do end "$number"; done
  # shellcheck disable=SC2317 # called by name
  is_back() { [ "$(fds "$proxy")" -le "$before" ]; }
  if [ "$engine" = threads ]; then within 150 is_back; else within 60 is_back; fi
  detail="$before idle, $(fds "$proxy") after"
  is_back || { fail "descriptors stay open: $detail: $(ls -l "/proc/$proxy/fd" | grep -o 'socket\|pipe\|anon.*\|/.*' | sort | uniq -c | tr -s ' ' | tr '\n' ',')"; end "$proxy"; return 1; }
  local kept=$detail
  stop_proxy && detail=$kept
}

# -- faults -----------------------------------------------------------------------------------------

kill_nginx() {
  tell KILL "${servers[0]}"
  within 20 is_gone "${servers[0]}"
  reap "${servers[0]}"
  sleep 0.4
  run_nginx
  servers=("$pid")
}

# The server is killed and started again under load: whole answers, 502 or 504, or a visible break; then all is well.
nginx_restarts() {
  has python3 || { missing python3; return; }
  local reader load='' kills=0 until=$((SECONDS + chaos_seconds)) status=0 kept
  if has wrk; then
    start "chaos-wrk-$engine" timeout -k 2 $((chaos_seconds + 20)) wrk -t1 -c64 -d"${chaos_seconds}s" "http://$at/small.txt"
    load=$pid
  fi
  python_client restarts "$tmp/www" "$chaos_seconds" >/dev/null &
  reader=$!
  started+=("$reader")
  while [ "$SECONDS" -lt $((until - 1)) ]; do
    sleep 0.7
    kill_nginx
    kills=$((kills + 1))
  done
  within $(((chaos_seconds + 25) * 10)) is_gone "$reader" || { fail 'a client hangs'; return; }
  reap "$reader" || status=$?
  kept="killed $kills times: $(tr '\n' ' ' <"$work/out" | cut -c 1-240)"
  if [ -n "$load" ]; then
    within 250 is_gone "$load"
    reap "$load" || status=1
    kept="$kept; wrk: $(grep -E 'requests in|Socket errors|Non-2xx' "$tmp/logs/chaos-wrk-$engine.log" | tr -s ' ' | tr '\n' ' ')"
    ! grep -q 'timeout [1-9]' "$tmp/logs/chaos-wrk-$engine.log" || { fail "answers that took over 2 s: $kept"; return; }
  fi
  detail=$kept
  [ "$status" -eq 0 ] || return 1
  within 50 answers "${upstream[0]}"
  ab_load /small.txt 1000 || { fail "did not recover: $detail; $kept"; return; }
  detail=$kept
}

# SIGTERM with downloads under way and load beside them: they end whole, nobody else gets in, and the status is 0.
drain_under_load() {
  has curl || { missing curl; return; }
  local number slow=() load='' status=0 begun whole=0 proxy proxy_log at
  start_proxy "drain-$engine-$backend" ${proxy_flags[@]+"${proxy_flags[@]}"} || { fail 'the proxy did not start'; return; }
  if has wrk; then
    start "drain-wrk-$engine" timeout -k 2 30 wrk -t1 -c64 -d3s "http://$at$2"
    load=$pid
  fi
  for number in 1 2 3 4 5 6; do
    curl -sS --fail --max-time 25 -o "$work/slow.$number" "http://$at$1" 2>"$work/slow-err.$number" </dev/null &
    slow+=("$!")
  done
  started+=("${slow[@]}")
  sleep 0.8
  begun=${EPOCHREALTIME/[.,]/}
  tell TERM "$proxy"
  sleep 0.3
  ! answers "$at" || status=1
  [ "$status" -eq 0 ] || { end "$proxy"; fail 'connections are accepted after SIGTERM'; return 1; }
  within 350 is_gone "$proxy" || { end "$proxy"; fail 'alive 35 s after SIGTERM'; return 1; }
  reap "$proxy" || status=$?
  detail="exit $status after $(((${EPOCHREALTIME/[.,]/} - begun) / 1000)) ms"
  for number in "${slow[@]}"; do reap "$number" && whole=$((whole + 1)); done
  [ -z "$load" ] || end "$load"
  detail="$detail, $whole of 6 slow answers whole"
  [ "$status" -eq 0 ] && [ "$whole" -eq 6 ] || { fail "$detail: $(cat "$work"/slow-err.* | head -n 2 | tr '\n' ' ')"; return 1; }
  [ "$(sha "$work"/slow.[1-6] | sort -u | wc -l)" -eq 1 ] || { fail "$detail, but they differ"; return 1; }
  ! grep -m 1 -i panic "$proxy_log" >/dev/null || { fail "$detail: $(grep -m 1 -i panic "$proxy_log")"; return 1; }
}

# A backend that nobody listens on: 502 at once, and the connection to the client lives on.
refused_backend() {
  has curl || { missing curl; return; }
  upstream=("127.0.0.1:$(free_port)")
  start_proxy "refused-$engine" || { fail 'the proxy did not start'; return; }
  curl_ -D "$work/head" -o /dev/null -w '%{http_code} ' "http://$at/" -o /dev/null "http://$at/" \
    --next -sS -o /dev/null -w '%{http_code}' -d x "http://$at/" || { fail "$(said)"; end "$proxy"; return 1; }
  local got
  got=$(cat "$work/out")
  [ "$got" = '502 502 502' ] || { end "$proxy"; fail "statuses $got"; return 1; }
  grep -qi '^proxy-status:.*connection_refused' "$work/head" || { end "$proxy"; fail 'no Proxy-Status that names the cause'; return 1; }
  stop_proxy && detail="$got"
}

# A backend's name that nobody knows stops no start (decision 0024): it is told once, and requests are answered 503.
unknown_host() {
  has curl || { missing curl; return; }
  upstream=(no-such-host.invalid:80)
  start_proxy "unknown-$engine" || { fail 'the proxy did not start'; return; }
  within 50 grep -q 'no-such-host[.]invalid: .*until it resolves' "$proxy_log" \
    || { end "$proxy"; fail 'the name is not told'; return 1; }
  curl_ -D "$work/head" -o /dev/null -w '%{http_code}' "http://$at/" || { fail "$(said)"; end "$proxy"; return 1; }
  local got
  got=$(cat "$work/out")
  [ "$got" = 503 ] || { end "$proxy"; fail "status $got"; return 1; }
  grep -qi '^proxy-status:' "$work/head" || { end "$proxy"; fail 'no Proxy-Status that names the cause'; return 1; }
  stop_proxy && detail="$got"
}

# One line that says what, where and what to do: wanted status, wanted text, flags.
refuses_flags() {
  local wanted=$1 text=$2 status=0 lines
  shift 2
  timeout -k 2 5 "$proxy_program" "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
  lines=$(grep -c . "$work/err")
  detail="exit $status, $lines line(s): $(head -n 1 "$work/err" | cut -c 1-150)"
  [ "$status" -eq "$wanted" ] && grep -q -- "$text" "$work/err" || return 1
  [ "$lines" -eq 1 ] || { fail "not one line: $detail"; return; }
}

port_in_use() {
  upstream=(127.0.0.1:9)
  start_proxy "first-$engine" || { fail 'the proxy did not start'; return; }
  local status=0
  refuses_flags 1 "$at" --listen "$at" --engine "$engine" || status=1
  local kept=$detail
  end "$proxy"
  detail=$kept
  return "$status"
}

# Where io_uring is not allowed, `uring` fails in one line and `auto` goes on with epoll and says why.
uring_forbidden() {
  has python3 || { missing python3; return; }
  local status=0 kept
  timeout -k 2 10 python3 "$tmp/no_uring.py" "$proxy_program" --listen 127.0.0.1:0 --engine uring >"$work/out" 2>"$work/err" \
    </dev/null || status=$?
  [ "$status" -ne 77 ] || { detail='(not allowed) seccomp'; return 77; }
  kept="uring: exit $status: $(tail -n 1 "$work/err" | cut -c 1-160)"
  [ "$status" -eq 1 ] || { fail "$kept"; return; }
  [ "$(grep -c . "$work/err")" -eq 1 ] || { fail "not one line: $kept"; return; }
  start "auto-forbidden" python3 "$tmp/no_uring.py" "$proxy_program" --listen 127.0.0.1:0 --engine auto
  proxy=$pid proxy_log=$log
  listening || { fail "auto does not start: $(tail -n 1 "$log")"; return; }
  kept="$kept; auto: $(head -n 1 "$log" | cut -c 1-160)"
  grep -q 'epoll' "$log" && grep -qi 'io_uring' "$log" || { end "$proxy"; fail "$kept"; return 1; }
  stop_proxy && detail=$kept
}

# -- suites -----------------------------------------------------------------------------------------

# What every backend must answer: a path with about a kilobyte, and one that is not there.
suite_common() {
  local path=$1 absent=$2
  check curl-get curl_get "$path"
  check curl-head curl_head "$path"
  check curl-http1.0 curl_http10 "$path"
  check curl-404 curl_status "$absent" -X GET 404
  check curl-reuse curl_reuse "$path"
  check curl-Z curl_parallel "$path"
  check wget-get wget_get "$path"
  check wget-spider wget_spider "$path"
  check python-http.client python_client http_client "$path"
  check python-requests python_client requests_session "$path"
}

# The load that every backend must stand; python4 sets the pace itself, which takes time.
suite_load() {
  local path=$1 ab_count=$2 check=check
  [ "$backend" != python4 ] || check=check_in_full
  [ "$backend" = python4 ] || $check ab-close ab_load "$path" "$ab_count"
  check ab-keepalive ab_keep "$path" "$ab_count"
  $check wrk-512 wrk_load "$path"
  $check hey-100 hey_load "$path" "$hey_requests"
  $check siege-25 siege_load "$path"
}

suite_echo() {
  check curl-post-length curl_post -H 'Expect:' --data-binary "@$tmp/www/big.bin"
  check curl-post-chunked curl_post -H 'Expect:' -H 'Transfer-Encoding: chunked' --data-binary "@$tmp/www/big.bin"
  check curl-put-stdin curl_post_stdin
  check curl-expect-100 curl_expect
  check curl-204 curl_status /status/204 -X GET 204
  check http.client-upload python_client http_client_upload / 200000
  check requests-upload python_client requests_upload / 200000
  if [ "$backend" = pyecho ]; then
    check http.client-upload-big python_client http_client_upload /digest "$body_bytes"
    check requests-upload-big python_client requests_upload /digest "$body_bytes"
    if $is_quick; then return; fi
  fi
  suite_common / /status/404
  suite_load / "$ab_requests"
  check_in_full drain-under-load drain_under_load /delay/2000 /
  check_in_full fds-after-load no_leaked_fds / /delay/1000
}

suite_files() {
  check curl-big curl_big
  check curl-Z-1MB curl_parallel /middle.bin
  check curl-304 curl_conditional
  check wget-big wget_big
  check requests-streaming python_client requests_streaming /big.bin
  suite_common /small.txt /no-such-file
  suite_load /small.txt "$1"
}

suite_nginx() {
  suite_files "$ab_requests"
  check curl-range curl_range
  check curl-gzip curl_gzip
  check curl-put-405 curl_status /small.txt -T "$tmp/www/middle.bin" 405
  check drain-under-load drain_under_load /slowly/middle.bin /small.txt
  check fds-after-load no_leaked_fds /small.txt /big.bin
  check server-killed nginx_restarts
}

suite_python4() {
  check ab-c80-p99 ab_python /small.txt "$ab_slow_requests"
  check_in_full ab-c80-p99-again ab_python /small.txt "$ab_slow_requests"
  suite_files "$ab_slow_requests"
  check_in_full fds-after-load no_leaked_fds /small.txt /big.bin
}

# Without a backend: how the program starts, refuses and ends.
suite_none() {
  check refused-backend refused_backend
  check port-in-use port_in_use
  check wrong-flag refuses_flags 2 --no-such-flag --no-such-flag
  check wrong-word refuses_flags 2 tunnel tunnel
  check wrong-engine refuses_flags 2 engine --engine select
  check wrong-workers refuses_flags 2 workers --workers 0
  check wrong-time refuses_flags 2 head-timeout --head-timeout 5
  check wrong-listen refuses_flags 2 HOST:PORT --listen nonsense
  check wrong-backend refuses_flags 2 HOST:PORT --backend 127.0.0.1:99999
  check foreign-address refuses_flags 1 192.0.2.1 --listen 192.0.2.1:8080
  check unknown-host unknown_host
  check unknown-listen refuses_flags 1 no-such-host.invalid --listen no-such-host.invalid:80
  [ "$engine" != uring ] || check uring-forbidden uring_forbidden
}

# One kind of backend on one engine: start it and the proxy, run the suite, look at the process, end both.
run_backend() {
  backend=$1 upstream=() servers=() proxy_flags=() proxy=''
  case $backend in
    echo) [ -x "$echo_program" ] || { only='' check start missing hp-echo; return; } ;;
    pyecho | python4) has python3 || { only='' check start missing python3; return; } ;;
    nginx) has nginx || { only='' check start missing nginx; return; } ;;
    none) suite_none; return ;;
  esac
  case $backend in
    python4) proxy_flags=(--upstream-conns-max 16) ;;
    # A thread each: with 512 of them some starve for seconds, also without a proxy.
    pyecho) proxy_flags=(--upstream-conns-max 64) ;;
  esac
  if "start_$backend" && start_proxy "proxy-$engine-$backend" ${proxy_flags[@]+"${proxy_flags[@]}"}; then
    local main_proxy=$proxy main_log=$proxy_log main_at=$at
    case $backend in
      echo | pyecho) suite_echo ;;
      *) "suite_$backend" ;;
    esac
    proxy=$main_proxy proxy_log=$main_log at=$main_at
    check no-iou-wrk no_hidden_threads
    check sigterm-idle stop_proxy
  else
    only='' check start fail "did not start: $(tail -qn 1 "$log")"
  fi
  local server
  for server in ${servers[@]+"${servers[@]}"}; do end "$server"; done
}

engine_is_allowed() {
  upstream=(127.0.0.1:9)
  start_proxy "probe-$engine" && { end "$proxy"; return; }
  detail="$(tail -n 1 "$log" | cut -c 1-200)"
  [ "$engine" = uring ] && grep -q 'uring cannot start.*io_uring' "$log" || return 1
  detail="(not allowed) $detail"
  return 77
}

main() {
  local one each detail
  make_files && write_pyecho && write_python_client && write_no_uring || misuse 'no room for the files'
  # shellcheck disable=SC2059 # the format is ours
  printf "$row_format" engine backend client result detail
  for one in $engines; do
    engine=$one backend='-'
    engine_is_allowed || { only='' check start engine_is_allowed; continue; }
    for each in $backends; do run_backend "$each"; done
  done
  if [ "$failures" -gt 0 ]; then
    printf '%s failed in %s s\n' "$failures" "$SECONDS"
    exit 1
  fi
  printf 'none failed in %s s\n' "$SECONDS"
}

main; exit # On one line: whoever edits this file while it runs does not run the edit.
