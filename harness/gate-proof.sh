#!/bin/sh
# The gate on losses that were made on purpose, each of which it has to catch with the number named here; then on nothing.
#
#   harness/gate-proof.sh BIN_DIR SLOW_BIN_DIR [PASSES [FLAGS of harness compare]]
#
# SLOW_BIN_DIR has an hp-proxy with the feature slow-down. Base and head are that one program; the head is told by its
# environment what to lose. A loss is looked for with the number that has to catch it, and with no other. A pass of equals counts
# all that the gate counts on one engine, and measures on it: every second pass is on io_uring. Exit 0 when each loss was caught
# and each comparison of equals passed, else 1.
set -u
bin=$1 slow=$2 passes=${3:-10}
if [ $# -gt 3 ]; then shift 3; else set --; fi
out=$(mktemp) || exit 1
trap 'rm -f "$out" "$out.log"' EXIT
failed=0

gate() {
  "$bin/harness" compare --bin-dir "$bin" --base-bin "$slow" --head-bin "$slow" "$@"
}

# What is asked in each part; the loss's own environment comes last.
counted() { # counter
  echo "--skip-rounds --counters $1"
}
measured='--skip-counters --workloads small --engine epoll'
equal() { # number of the pass
  if [ $(($1 % 2)) -eq 1 ]; then engine=epoll; else engine=uring; fi
  echo "--workloads small --engine $engine --count-on $engine"
}

caught() { # loss, pattern of the line that has to fail, flags
  loss=$1 pattern=$2
  shift 2
  gate --head-env "HP_SLOW_DOWN=$loss" "$@" > "$out" 2> "$out.log"
  code=$?
  if [ $code -eq 3 ] && grep -E "^FAIL +$pattern" "$out"; then
    echo "gate-proof: $loss is caught"
  else
    echo "gate-proof: $loss is NOT caught (exit $code)"
    cat "$out" "$out.log"
    failed=1
  fi
}

seconds() { # flags
  gate --how-long "$@" || exit 1
}

# A count that shows a loss is taken again, so it takes twice its time.
# shellcheck disable=SC2046
sum=$((2 * $(seconds $(counted syscalls) "$@") + 2 * $(seconds $(counted allocations) "$@") + 2 * $(seconds $(counted idle) "$@") + $(seconds $measured "$@")))
pass=0
while [ "$pass" -lt "$passes" ]; do
  pass=$((pass + 1))
  # shellcheck disable=SC2046
  sum=$((sum + $(seconds $(equal $pass) "$@")))
done
echo "gate-proof: four losses and $passes passes of equals, about $(((sum + 59) / 60)) minutes"
began=$(date +%s)

# shellcheck disable=SC2046
caught getpid '.*system calls / request' $(counted syscalls) "$@"
# shellcheck disable=SC2046
caught alloc '.*allocations / request' $(counted allocations) "$@"
# shellcheck disable=SC2046
caught idle '.*bytes / idle connection' $(counted idle) "$@"
# shellcheck disable=SC2086
caught spin 'small +CPU us / request' $measured "$@"

pass=0
while [ "$pass" -lt "$passes" ]; do
  pass=$((pass + 1))
  # shellcheck disable=SC2046
  if gate $(equal $pass) "$@" > "$out" 2> "$out.log"; then
    echo "gate-proof: nothing is found in nothing, $pass of $passes"
  else
    echo "gate-proof: a loss is found where there is none, $pass of $passes (exit $?)"
    cat "$out" "$out.log"
    failed=1
  fi
done
echo "gate-proof: $((($(date +%s) - began + 59) / 60)) minutes"
exit $failed
