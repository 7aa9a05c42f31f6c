#!/bin/bash
# A Lua route that returns small JSON against nginx with its Lua module doing the same, one worker each, in one run.
# ROUNDS (3) and SECONDS_EACH (4) set the length.
set -u
. "$(dirname "$0")/lib.sh"
ROUNDS=${ROUNDS:-3} SECONDS_EACH=${SECONDS_EACH:-4} PORT=${PORT:-19480}
trap 'stop_server; stop_nginx; wait 2>/dev/null; rm -rf "$WORK"' EXIT

start_nginx "$PORT" || exit 1
start_server http --workers 1 || exit 1
NGINX_WORKER=$(pgrep -P "$NGINX")

# run NAME PID URL: appends the rate to NAME.rate and the CPU time a request took, in microseconds, to NAME.cpu.
run() {
  local before=$(cpu_us "$2") out=$(wrk -t1 -c64 -d"${SECONDS_EACH}s" "$3") after
  after=$(cpu_us "$2")
  awk '/^Requests\/sec/ {print $2}' <<<"$out" >>"$WORK/$1.rate"
  awk -v us="$((after - before))" '/requests in/ {printf "%.2f\n", us / $1}' <<<"$out" >>"$WORK/$1.cpu"
}
ours() { run ours "$SERVER" "$BASE/hello"; }
peer() { run peer "$NGINX_WORKER" "http://127.0.0.1:$PORT/hello"; }

wrk -t1 -c64 -d2s "$BASE/hello" >/dev/null
warm=$(memory_kb "$SERVER")
in_turns "$ROUNDS" ours peer
ours=$(median <"$WORK/ours.rate") peer=$(median <"$WORK/peer.rate") ours_us=$(median <"$WORK/ours.cpu") peer_us=$(median <"$WORK/peer.cpu")
echo "http_route: moonwatch $ours/s, nginx + lua $peer/s, ratio $(ratio "$ours" "$peer") (medians of $ROUNDS runs of ${SECONDS_EACH} s, wrk -t1 -c64)"
echo "http_route_cpu: moonwatch $ours_us us a request, nginx + lua $peer_us us, ratio $(ratio "$peer_us" "$ours_us") (more is better; what a busy machine disturbs less)"
total=$(awk -v s="$SECONDS_EACH" '{t += $1 * s} END {printf "%.0f", t}' "$WORK/ours.rate")
echo "memory_after_load: $warm kB resident after warming up, $(memory_kb "$SERVER") kB after $total more requests (one worker, no supervisor)"
