#!/bin/bash
# A Lua route that returns small JSON against nginx with its Lua module doing the same, one worker each, in one run.
# ROUNDS (3) and SECONDS_EACH (4) set the length.
set -u
. "$(dirname "$0")/lib.sh"
ROUNDS=${ROUNDS:-3} SECONDS_EACH=${SECONDS_EACH:-4} NGINX= PORT=${PORT:-19480}
trap 'stop_server; [ -n "$NGINX" ] && kill -QUIT $NGINX 2>/dev/null; wait 2>/dev/null; rm -rf "$WORK"' EXIT

mkdir -p "$WORK/nginx"
sed "s#@WORK@#$WORK/nginx#g; s#@MODULES@#/usr/lib/nginx/modules#g; s#@PORT@#$PORT#g" "$ROOT/bench/nginx.conf.in" >"$WORK/nginx/nginx.conf"
nginx -c "$WORK/nginx/nginx.conf" 2>"$WORK/nginx/stderr" & NGINX=$!
start_server http --workers 1 || exit 1
for _ in $(seq 100); do curl -fs -o /dev/null "http://127.0.0.1:$PORT/hello" && break; sleep 0.05; done

rate() { wrk -t1 -c64 -d"${SECONDS_EACH}s" "$1" | awk '/^Requests\/sec/ {print $2}'; }
rate "$BASE/hello" >/dev/null
warm=$(memory_kb "$SERVER")
for i in $(seq "$ROUNDS"); do # whoever is second this time is first the next
  [ $((i % 2)) = 0 ] || rate "http://127.0.0.1:$PORT/hello" >>"$WORK/peer"
  rate "$BASE/hello" >>"$WORK/ours"
  [ $((i % 2)) = 1 ] || rate "http://127.0.0.1:$PORT/hello" >>"$WORK/peer"
done
ours=$(median <"$WORK/ours") peer=$(median <"$WORK/peer")
echo "http_route: moonwatch $ours/s, nginx + lua $peer/s, ratio $(ratio "$ours" "$peer") (medians of $ROUNDS runs of ${SECONDS_EACH} s, wrk -t1 -c64)"
total=$(awk -v s="$SECONDS_EACH" '{t += $1 * s} END {printf "%.0f", t}' "$WORK/ours")
echo "memory_after_load: $warm kB resident after warming up, $(memory_kb "$SERVER") kB after $total more requests (one worker, no supervisor)"
