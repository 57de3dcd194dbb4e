#!/usr/bin/env bash
# Repeats the scenarios in which hosts keep a site alive with real processes, and says how that went:
#   bench/soak.sh [TIMES] [LOG]     20 times, soak.log
# The network is cut in one of them, which needs root and iproute2.
set -uo pipefail
cd "$(dirname "$0")/.."
times=${1:-20} log=${2:-soak.log}
scenarios='^(TestASiteIsServedThroughoutWhile|TestHostsThatLieAreFound|TestAHostThatAnswersFromAnothersData)'
HOLDFAST_TEST_ALL=1 go test -v -count "$times" -timeout 6h -run "$scenarios" ./test/e2e >"$log" 2>&1
ended=$?
echo "$(nproc) cores, $(uname -sm), $(date -u +%F); seconds of each run:"
awk '/^--- (PASS|FAIL)/ { gsub(/[()s]/, "", $4); print $3, $2, $4 }' "$log" | sort -k1,1 -k3,3n | awk '
  function show() { if (n) printf "%s: %d passed, %d failed; %s median, %s to %s\n", name, good, n-good, t[int((n+1)/2)], t[1], t[n] }
  $1 != name { show(); name = $1; n = good = 0 }
  { t[++n] = $3; good += $2 == "PASS:" }
  END { show() }'
exit $ended
