#!/bin/bash
# 3-step workflows triggered in process and committed, against the raw group-commit rate of the same engine (bench/raw_*.c) with
# as many executions a commit as there are triggers in flight; the raw rate is measured before and after, and its median counts.
# COUNT (20,000) executions, CONCURRENCY (256) triggers in flight, ROUNDS (3). PostgreSQL needs MW_BENCH_DATABASE_URL, which
# script/bench sets.
set -u
. "$(dirname "$0")/lib.sh"
COUNT=${COUNT:-20000} CONCURRENCY=${CONCURRENCY:-256} ROUNDS=${ROUNDS:-3}
trap 'stop_server; rm -rf "$WORK"' EXIT

post() { curl -fs -H 'content-type: application/json' -d "$2" "$BASE$1"; }

# until_is SECONDS VALUE COMMAND…: runs the command until it prints the value.
until_is() {
  local until=$(($(date +%s) + $1)) value=$2; shift 2
  until [ "$("$@")" = "$value" ]; do
    if [ "$(date +%s)" -ge "$until" ]; then echo "gave up waiting: $* printed $("$@"), not $value" >&2; return 1; fi
    sleep 0.005
  done
}
last_steps() { curl -fs "$BASE/bench/done/$1" | field done; }
running() { curl -fs "$BASE/api/v1/executions?status=running&limit=1" | field total; }

# One round: executions a second until the last one is committed.
round() {
  local from=$(date +%s%N)
  post /bench/run "{\"batch\":\"$1\",\"count\":$COUNT,\"concurrency\":$CONCURRENCY}" >/dev/null || return 1
  until_is 60 "$COUNT" last_steps "$1" && until_is 60 0 running || return 1
  awk -v n="$COUNT" -v t="$(($(date +%s%N) - from))" 'BEGIN {printf "%.0f\n", n * 1e9 / t}'
}

# measure NAME RAW-COMMAND ARGS…
measure() {
  local name=$1 raw=$2; shift 2
  $raw >"$WORK/$name.raw" || return 1
  start_server "$name" "$@" || return 1
  round warm >/dev/null
  : >"$WORK/$name.rates"
  for i in $(seq "$ROUNDS"); do round "r$i" >>"$WORK/$name.rates" || { tail -3 "$WORK/$name/log"; return 1; }; done
  local ours=$(median <"$WORK/$name.rates")
  local idle=$(post /bench/latency '{"batch":"l","count":100}')
  stop_server
  $raw >>"$WORK/$name.raw" || return 1
  raw=$(median <"$WORK/$name.raw")
  echo "workflows_$name: $ours executions/s, raw group commit $raw/s, ratio $(ratio "$ours" "$raw") (median of $ROUNDS runs of $COUNT, $CONCURRENCY in flight)"
  echo "workflow_idle_$name: p50 $(echo "$idle" | field p50_ms) ms, p99 $(echo "$idle" | field p99_ms) ms from trigger to last step, polled each millisecond"
}

raw() { "$(dirname "$MOONWATCH")/bench_raw_$1" "$2" "$CONCURRENCY" | field rate; }
raw_sqlite() { rm -f "$WORK"/raw.db*; raw sqlite "$WORK/raw.db"; raw sqlite "$WORK/raw2.db"; rm -f "$WORK"/raw*.db*; }
raw_postgres() { raw postgres "$MW_BENCH_DATABASE_URL"; raw postgres "$MW_BENCH_DATABASE_URL"; }

measure sqlite raw_sqlite
if [ -n "${MW_BENCH_DATABASE_URL:-}" ]; then
  measure postgres raw_postgres --database "$MW_BENCH_DATABASE_URL"
else
  echo "workflows_postgres: not measured, MW_BENCH_DATABASE_URL is not set"
fi
