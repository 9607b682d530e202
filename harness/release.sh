#!/bin/sh
# Builds the programs for what they do most: with a profile of themselves under load (docs/decisions/0032).
#
#   harness/release.sh TARGET_DIR
#
# Three steps, each about as long as a release build: programs that count their own branches, a minute of requests through them on
# every engine that this kernel allows, and the build that knows what was counted. The programs are in TARGET_DIR/pgo in the end.
# Needs llvm-profdata of this very compiler: rustup component add llvm-tools.
set -eu
target=$(mkdir -p "$1" && cd "$1" && pwd)
cargo=${CARGO:-cargo}
work=$target/pgo-build
programs='hp-proxy hp-echo hp-bench'
triple=$(rustc -vV | sed -n 's/^host: //p')
profdata=$(rustc --print sysroot)/lib/rustlib/$triple/bin/llvm-profdata

fail() {
  echo "make release: $*" >&2
  exit 1
}

[ -x "$profdata" ] || fail "llvm-profdata is missing; install it with: rustup component add llvm-tools"

build() { # flags of the compiler
  # With a target the flags do not concern what runs while building.
  # shellcheck disable=SC2086
  RUSTFLAGS="$*" "$cargo" build --release --locked --target "$triple" --target-dir "$work" $(printf -- '-p %s ' $programs) --bins
}

scratch=$(mktemp -d)
servers=''
started=0
cleanup() {
  for server in $servers; do kill -TERM "$server" 2>/dev/null || true; done
  rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Starts a server on a free port; leaves its process in $server and its address in $address.
serve() {
  started=$((started + 1))
  log=$scratch/$started
  : >"$log"
  "$@" 2>"$log" >/dev/null </dev/null &
  server=$!
  servers="$servers $server"
  tries=100
  until grep -q '^listening on ' "$log"; do
    [ "$tries" -gt 0 ] || fail "no 'listening on' within 10 s from: $*: $(tail -n 1 "$log")"
    tries=$((tries - 1))
    sleep 0.1
  done
  address=$(sed -n 's/^listening on \([^ ]*\).*/\1/p' "$log" | head -n 1)
}

# A server writes what it counted when it ends in good order.
stop() {
  kill -TERM "$1"
  wait "$1" || fail "a program under training ended with status $?"
}

# Requests through the proxy; what the proxy is told, then -- and what hp-bench is told.
train() {
  flags=''
  while [ "$1" != -- ]; do
    flags="$flags $1"
    shift
  done
  shift
  # shellcheck disable=SC2086
  serve "$bin/hp-proxy" --listen 127.0.0.1:0 --backend "$backend" --workers 1 $flags
  "$bin/hp-bench" "$address" -t 1 --warmup 0 --progress none "$@" >"$scratch/report" || fail "hp-bench $*: $(cat "$scratch/report")"
  stop "$server"
}

# What proxies do most, most of it small. Each engine has its own calls; logic above them is the same.
train_all() {
  for engine in epoll auto; do
    serve "$bin/hp-echo" --listen 127.0.0.1:0 --workers 1 --engine "$engine"
    echo_process=$server backend=$address
    train --engine "$engine" -- -c 100 -n 60000 --engine "$engine"
    train --engine "$engine" -- -c 16 -n 20000 --engine "$engine"
    train --engine "$engine" -- -c 32 -n 5000 --close --engine "$engine"
    train --engine "$engine" -- -c 16 -n 10000 -m POST -b 1k --engine "$engine"
    train --engine "$engine" -- -c 16 -n 2000 -m POST -b 64k --chunked --engine "$engine"
    train --engine "$engine" -- -c 100 -d 2s -R 5k --engine "$engine"
    train --engine "$engine" --multiplex -- -c 100 -n 40000 --engine "$engine"
    stop "$echo_process"
    serve "$bin/hp-echo" --listen 127.0.0.1:0 --workers 1 --engine "$engine" --body 65536
    echo_process=$server backend=$address
    train --engine "$engine" -- -c 16 -n 5000 --engine "$engine"
    stop "$echo_process"
  done
  serve "$bin/hp-echo" --listen 127.0.0.1:0 --workers 1 --engine epoll
  echo_process=$server backend=$address
  train --engine threads -- -c 16 -n 10000
  stop "$echo_process"
}

bin=$work/$triple/release
counted=$work/counted
rm -rf "$counted"
echo 'make release: 1 of 3: programs that count'
build "-Cprofile-generate=$counted"
echo 'make release: 2 of 3: requests through them'
train_all
servers=''
"$profdata" merge -o "$work/profile" "$counted"
echo 'make release: 3 of 3: programs that know'
build "-Cprofile-use=$work/profile"
mkdir -p "$target/pgo"
for program in $programs; do cp "$bin/$program" "$target/pgo/"; done
echo "make release: $programs are in $target/pgo"
