#!/bin/sh
# The gate on losses that were made on purpose, each of which it has to catch with the number named here; then on nothing.
#
#   harness/gate-proof.sh BIN_DIR SLOW_BIN_DIR [PASSES [FLAGS of harness compare]]
#
# SLOW_BIN_DIR has an hp-proxy with the feature slow-down. Base and head are that one program; the head is told by its
# environment what to lose. Exit 0 when each loss was caught and each comparison of equals passed, else 1.
set -u
bin=$1 slow=$2 passes=${3:-10}
if [ $# -gt 3 ]; then shift 3; else set --; fi
out=$(mktemp) || exit 1
trap 'rm -f "$out" "$out.log"' EXIT
failed=0

gate() { # flags: the table goes to $out
  "$bin/harness" compare --bin-dir "$bin" --base-bin "$slow" --head-bin "$slow" --engine epoll "$@" > "$out" 2>> "$out.log"
}

caught() { # loss, pattern of the line that has to fail
  loss=$1 pattern=$2
  shift 2
  gate --head-env "HP_SLOW_DOWN=$loss" --workloads small "$@"
  code=$?
  if [ $code -eq 3 ] && grep -E "^FAIL +$pattern" "$out"; then
    echo "gate-proof: $loss is caught"
  else
    echo "gate-proof: $loss is NOT caught (exit $code)"
    cat "$out"
    failed=1
  fi
}

caught getpid '.*system calls / request' "$@"
caught alloc '.*allocations / request' "$@"
caught idle '.*bytes / idle connection' "$@"
caught spin 'small +CPU us / request' "$@"

pass=0
while [ "$pass" -lt "$passes" ]; do
  pass=$((pass + 1))
  if gate --workloads small "$@"; then
    echo "gate-proof: nothing is found in nothing, $pass of $passes"
  else
    echo "gate-proof: a loss is found where there is none, $pass of $passes"
    cat "$out"
    failed=1
  fi
done
exit $failed
