#!/bin/bash
# 3-step workflows triggered in process and committed, against the raw group-commit rate of the same engine (bench/raw_*.c) with
# as many executions a commit as there are triggers in flight, the two in turns.
# Then the same executions started by one HTTP request each (wrk -t1 -c64 for SECONDS_EACH, until all have ended), what one costs with 10 to 9,000 of
# them at work at once, and peers.sh.
# COUNT (20,000) executions, CONCURRENCY (256) triggers in flight, ROUNDS (3), SECONDS_EACH (3). PostgreSQL needs MW_BENCH_DATABASE_URL, which
# script/bench sets.
set -u
. "$(dirname "$0")/lib.sh"
COUNT=${COUNT:-20000} CONCURRENCY=${CONCURRENCY:-256} ROUNDS=${ROUNDS:-3} SECONDS_EACH=${SECONDS_EACH:-3}
trap 'stop_server; rm -rf "$WORK"' EXIT

# Triggers 100 executions on the idle server; the median of what lies between their created_at and finished_at.
paced_ms() {
  post /bench/paced '{"batch":"paced","count":100}' >/dev/null && until_is 20 100 last_steps paced && until_is 20 0 running || return 1
  curl -fs "$BASE/api/v1/executions?limit=100" | tr '{' '\n' | awk '
    function ms(name,  at) {
      if (!match($0, "\"" name "\":\"[^\"]*\"")) return -1
      split(substr($0, RSTART + length(name) + 15, 15), at, ":")
      return (at[1] * 3600 + at[2] * 60 + at[3]) * 1000
    }
    /"finished_at":"/ {took = ms("finished_at") - ms("created_at"); printf "%.3f\n", took < 0 ? took + 86400000 : took}' | median
}

bench_total() { curl -fs "$BASE/api/v1/executions/totals?status=$1&workflow=bench" | sed 's/.*"total":\([0-9]*\)[^0-9]*$/\1/'; }

# Executions a second, each started by a request of its own, until the last of them has ended.
http_round() {
  local before=$(bench_total completed) from=$(date +%s%N)
  wrk -t1 -c64 -d"${SECONDS_EACH}s" -s "$ROOT/bench/trigger.lua" "$BASE/api/v1/executions" >/dev/null
  until_is 60 0 bench_total queued,running || return 1
  awk -v n="$(($(bench_total completed) - before))" -v t="$(($(date +%s%N) - from))" 'BEGIN {printf "%.0f\n", n * 1e9 / t}'
}

# What one costs when so many are at work, in microseconds of CPU time of the whole server.
cost_at() {
  local rounds=$((9000 / $1 < 100 ? 9000 / $1 : 100)) before=$(cpu_us "$SERVER")
  post /bench/held "{\"batch\":\"held-$1\",\"at_once\":$1,\"rounds\":$rounds}" >/dev/null || return 1
  awk -v us=$(($(cpu_us "$SERVER") - before)) -v n="$(($1 * rounds))" 'BEGIN {printf "%.0f", us / n}'
}

# measure NAME RAW-COMMAND ARGS…
measure() {
  local name=$1 raw=$2; shift 2
  MOONWATCH_WORKFLOW_CONCURRENCY=9500 start_server "$name" "$@" || return 1
  round warm "$COUNT" >/dev/null
  local worker writer
  for i in $(seq "$ROUNDS"); do
    worker=$(cpu_us "$SERVER" worker-) writer=$(cpu_us "$SERVER" db-)
    round "r$i" "$COUNT" >>"$WORK/$name.rates" || { tail -3 "$WORK/$name/log"; return 1; }
    awk -v us=$(($(cpu_us "$SERVER" worker-) - worker)) -v n="$COUNT" 'BEGIN {printf "%.1f\n", us / n}' >>"$WORK/$name.worker"
    awk -v us=$(($(cpu_us "$SERVER" db-) - writer)) -v n="$COUNT" 'BEGIN {printf "%.1f\n", us / n}' >>"$WORK/$name.writer"
    $raw "$CONCURRENCY" >>"$WORK/$name.raw" || return 1
  done
  local ours=$(median <"$WORK/$name.rates")
  local idle=$(paced_ms) raw_idle=$($raw 1 100 20 | field p50_ms)
  for i in $(seq "$ROUNDS"); do http_round >>"$WORK/$name.http" || return 1; done
  local http=$(median <"$WORK/$name.http") costs="" at
  for at in 10 100 1000 9000; do costs="$costs, $(cost_at "$at") us with $at" || return 1; done
  stop_server
  echo "$ours" >"$WORK/$name.ours"
  raw=$(field rate <"$WORK/$name.raw" | median)
  echo "workflows_$name: $ours executions/s, raw group commit $raw/s, ratio $(ratio "$ours" "$raw") (median of $ROUNDS runs of $COUNT, $CONCURRENCY in flight)"
  echo "workflow_cpu_$name: $(median <"$WORK/$name.worker") us an execution on the workers, $(median <"$WORK/$name.writer") us on the database's threads"
  echo "workflow_idle_$name: p50 $idle ms from created_at to finished_at, the same three commits raw $raw_idle ms, ratio $(ratio "$idle" "$raw_idle") (100 executions, one each 20 ms)"
  echo "workflow_http_$name: $http executions/s started by one request each, ratio to in process $(ratio "$http" "$ours") (median of $ROUNDS runs of $SECONDS_EACH s)"
  echo "workflow_cost_$name: CPU time of one$costs at work at once"
}

raw_sqlite() { rm -f "$WORK"/raw.db*; "$(dirname "$MOONWATCH")/bench_raw_sqlite" "$WORK/raw.db" "$@"; }
raw_postgres() { "$(dirname "$MOONWATCH")/bench_raw_postgres" "$MW_BENCH_DATABASE_URL" "$@"; }

measure sqlite raw_sqlite
if [ -n "${MW_BENCH_DATABASE_URL:-}" ]; then
  measure postgres raw_postgres --database "$MW_BENCH_DATABASE_URL"
else
  echo "workflows_postgres: not measured, MW_BENCH_DATABASE_URL is not set"
fi
. "$ROOT/bench/peers.sh"
