#!/bin/bash
# 3-step workflows triggered in process and committed, against the raw group-commit rate of the same engine (bench/raw_*.c).
# COUNT (20,000) executions, CONCURRENCY (256) triggers in flight, ROUNDS (3). PostgreSQL needs MW_BENCH_DATABASE_URL, which
# script/bench sets.
set -u
. "$(dirname "$0")/lib.sh"
COUNT=${COUNT:-20000} CONCURRENCY=${CONCURRENCY:-256} ROUNDS=${ROUNDS:-3}
trap 'stop_server; rm -rf "$WORK"' EXIT

post() { curl -fs -H 'content-type: application/json' -d "$2" "$BASE$1"; }

# One round: executions a second until the last one is committed.
round() {
  local from=$(date +%s%N)
  post /bench/run "{\"batch\":\"$1\",\"count\":$COUNT,\"concurrency\":$CONCURRENCY}" >/dev/null || return 1
  until [ "$(curl -fs "$BASE/bench/done/$1" | field done)" -ge "$COUNT" ]; do sleep 0.01; done
  until [ "$(curl -fs "$BASE/api/v1/executions?status=running&limit=1" | field total)" = 0 ]; do sleep 0.005; done
  awk -v n="$COUNT" -v t="$(($(date +%s%N) - from))" 'BEGIN {printf "%.0f\n", n * 1e9 / t}'
}

measure() {
  local name=$1 raw=$2; shift 2
  start_server "$name" "$@" || return 1
  round warm >/dev/null
  : >"$WORK/$name.rates"
  for i in $(seq "$ROUNDS"); do round "r$i" >>"$WORK/$name.rates" || { tail -3 "$WORK/$name/log"; return 1; }; done
  local ours=$(median <"$WORK/$name.rates")
  local idle=$(post /bench/latency '{"batch":"l","count":100}')
  echo "workflows_$name: $ours executions/s, raw group commit $raw/s, ratio $(ratio "$ours" "$raw") (median of $ROUNDS runs of $COUNT, $CONCURRENCY in flight)"
  echo "workflow_idle_$name: p50 $(echo "$idle" | field p50_ms) ms, p99 $(echo "$idle" | field p99_ms) ms from trigger to last step, polled each millisecond"
  stop_server
}

mkdir -p "$WORK/raw"
measure sqlite "$("$(dirname "$MOONWATCH")/bench_raw_sqlite" "$WORK/raw/raw.db" 64 | field rate)"
if [ -n "${MW_BENCH_DATABASE_URL:-}" ]; then
  measure postgres "$("$(dirname "$MOONWATCH")/bench_raw_postgres" "$MW_BENCH_DATABASE_URL" 64 | field rate)" --database "$MW_BENCH_DATABASE_URL"
else
  echo "workflows_postgres: not measured, MW_BENCH_DATABASE_URL is not set"
fi
