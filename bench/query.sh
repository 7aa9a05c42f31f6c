#!/bin/bash
# mw.query from one worker against `pgbench -S -M prepared` with one thread: the same table, rows and number of queries in flight.
# ROUNDS (3), SECONDS_EACH (4) and CONCURRENCY (64) set the length. Wants MW_BENCH_DATABASE_URL.
set -u
. "$(dirname "$0")/lib.sh"
ROUNDS=${ROUNDS:-3} SECONDS_EACH=${SECONDS_EACH:-4} CONCURRENCY=${CONCURRENCY:-64} ACCOUNTS=100000
URL=${MW_BENCH_DATABASE_URL:?a PostgreSQL for this: script/postgres run …}
BIN=$(dirname "$(ls /usr/lib/postgresql/*/bin/pgbench | tail -1)")
trap 'stop_server; rm -rf "$WORK"' EXIT
"$BIN/pgbench" -i -q -s 1 "$URL" >"$WORK/init" 2>&1 || { cat "$WORK/init" >&2; exit 1; }
start_server query --workers 1 --database "$URL" || exit 1

queries() { # COUNT -> seconds
  curl -fs -m 110 -H 'content-type: application/json' -d "{\"accounts\":$ACCOUNTS,\"count\":$1,\"concurrency\":$CONCURRENCY}" "$BASE/bench/query" | field seconds
}
ours() { measure queries "$COUNT"; }
peer() { "$BIN/pgbench" -n -S -M prepared -c "$CONCURRENCY" -j 1 -T "$SECONDS_EACH" "$URL" 2>/dev/null | awk '/^tps/ {printf "%.0f\n", $3}' >>"$WORK/peer.rate"; }

warm=$(queries 5000)
COUNT=$(awk -v s="$warm" -v each="$SECONDS_EACH" 'BEGIN {printf "%.0f", 5000 / s * each}')
in_turns "$ROUNDS" ours peer
ours=$(median <"$WORK/ours.rate") peer=$(median <"$WORK/peer.rate")
echo "query: moonwatch $ours/s, pgbench -M prepared $peer/s, ratio $(ratio "$ours" "$peer"), $(median <"$WORK/ours.cpu") us of CPU a query (medians of $ROUNDS runs, $CONCURRENCY in flight)"
