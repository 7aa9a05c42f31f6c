#!/bin/bash
# 3-step workflows triggered in process and committed, against the raw group-commit rate of the same engine (bench/raw_*.c) with
# as many executions a commit as there are triggers in flight, the two in turns.
# COUNT (20,000) executions, CONCURRENCY (256) triggers in flight, ROUNDS (3). PostgreSQL needs MW_BENCH_DATABASE_URL, which
# script/bench sets.
set -u
. "$(dirname "$0")/lib.sh"
COUNT=${COUNT:-20000} CONCURRENCY=${CONCURRENCY:-256} ROUNDS=${ROUNDS:-3}
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

# measure NAME RAW-COMMAND ARGS…
measure() {
  local name=$1 raw=$2; shift 2
  start_server "$name" "$@" || return 1
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
  stop_server
  raw=$(field rate <"$WORK/$name.raw" | median)
  echo "workflows_$name: $ours executions/s, raw group commit $raw/s, ratio $(ratio "$ours" "$raw") (median of $ROUNDS runs of $COUNT, $CONCURRENCY in flight)"
  echo "workflow_cpu_$name: $(median <"$WORK/$name.worker") us an execution on the workers, $(median <"$WORK/$name.writer") us on the database's threads"
  echo "workflow_idle_$name: p50 $idle ms from created_at to finished_at, the same three commits raw $raw_idle ms, ratio $(ratio "$idle" "$raw_idle") (100 executions, one each 20 ms)"
}

raw_sqlite() { rm -f "$WORK"/raw.db*; "$(dirname "$MOONWATCH")/bench_raw_sqlite" "$WORK/raw.db" "$@"; }
raw_postgres() { "$(dirname "$MOONWATCH")/bench_raw_postgres" "$MW_BENCH_DATABASE_URL" "$@"; }

measure sqlite raw_sqlite
if [ -n "${MW_BENCH_DATABASE_URL:-}" ]; then
  measure postgres raw_postgres --database "$MW_BENCH_DATABASE_URL"
else
  echo "workflows_postgres: not measured, MW_BENCH_DATABASE_URL is not set"
fi
