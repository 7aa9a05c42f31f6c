#!/bin/bash
# mw.fetch from one worker against wrk, both asking the same upstream (nginx with its Lua module, one worker) with as many connections.
# ROUNDS (3), SECONDS_EACH (4) and CONCURRENCY (64) set the length.
set -u
. "$(dirname "$0")/lib.sh"
ROUNDS=${ROUNDS:-3} SECONDS_EACH=${SECONDS_EACH:-4} CONCURRENCY=${CONCURRENCY:-64} PORT=${PORT:-19482}
trap 'stop_server; stop_nginx; wait 2>/dev/null; rm -rf "$WORK"' EXIT
start_nginx "$PORT" || exit 1
start_server fetch --workers 1 || exit 1
URL=http://127.0.0.1:$PORT/hello

fetches() { # COUNT -> seconds
  curl -fs -m 110 -H 'content-type: application/json' -d "{\"url\":\"$URL\",\"count\":$1,\"concurrency\":$CONCURRENCY}" "$BASE/bench/fetch" | field seconds
}
ours() { measure fetches "$COUNT"; }
peer() { wrk -t1 -c"$CONCURRENCY" -d"${SECONDS_EACH}s" "$URL" | awk '/^Requests\/sec/ {print $2}' >>"$WORK/peer.rate"; }

warm=$(fetches 20000)
COUNT=$(awk -v s="$warm" -v each="$SECONDS_EACH" 'BEGIN {printf "%.0f", 20000 / s * each}')
in_turns "$ROUNDS" ours peer
ours=$(median <"$WORK/ours.rate") peer=$(median <"$WORK/peer.rate")
echo "fetch: moonwatch $ours/s, wrk $peer/s, ratio $(ratio "$ours" "$peer"), $(median <"$WORK/ours.cpu") us of CPU a fetch (medians of $ROUNDS runs, $CONCURRENCY connections, the same upstream)"
