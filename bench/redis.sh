#!/bin/bash
# mw.redis.get from one worker, 64 in flight over its one connection, against redis-benchmark: 64 clients without a pipeline (what a pool of
# 64 connections would do), and one client that keeps 64 in its pipeline (what one connection can do at most). In turns, in one run.
# ROUNDS (3) and COUNT (200000) set the length.
set -u
. "$(dirname "$0")/lib.sh"
ROUNDS=${ROUNDS:-3} COUNT=${COUNT:-200000} CONCURRENCY=64 PORT=${PORT:-19483} REDIS=
trap 'stop_server; [ -n "$REDIS" ] && kill $REDIS 2>/dev/null; wait 2>/dev/null; rm -rf "$WORK"' EXIT

redis-server --port "$PORT" --bind 127.0.0.1 --save "" --appendonly no --dir "$WORK" >"$WORK/redis.log" 2>&1 & REDIS=$!
for _ in $(seq 100); do redis-cli -p "$PORT" ping >/dev/null 2>&1 && break; sleep 0.05; done
redis-cli -p "$PORT" set bench "$(head -c 64 /dev/zero | tr '\0' x)" >/dev/null
export REDIS_URL=redis://127.0.0.1:$PORT
start_server redis --workers 1 || exit 1

asks() { # COUNT -> seconds
  curl -fs -H 'content-type: application/json' -d "{\"key\":\"bench\",\"count\":$1,\"concurrency\":$CONCURRENCY}" "$BASE/bench/redis" | field seconds
}
ours() { measure asks "$COUNT"; }
# peer NAME ARGS…
peer() {
  local name=$1; shift
  redis-benchmark -p "$PORT" -n "$COUNT" --csv "$@" GET bench | awk -F'"' '/^"GET/ {print $4}' >>"$WORK/$name.rate"
}

[ -n "$(asks 20000)" ] || exit 1
peers() { peer pool -c "$CONCURRENCY"; peer pipe -c 1 -P "$CONCURRENCY"; }
in_turns "$ROUNDS" ours peers
ours=$(median <"$WORK/ours.rate") pool=$(median <"$WORK/pool.rate") pipe=$(median <"$WORK/pipe.rate")
echo "redis_get: moonwatch $ours/s, redis-benchmark -c $CONCURRENCY $pool/s, ratio $(ratio "$ours" "$pool") (medians of $ROUNDS runs of $COUNT; $(median <"$WORK/ours.cpu") us of CPU a call)"
echo "redis_get_pipelined: redis-benchmark -c 1 -P $CONCURRENCY $pipe/s, ratio $(ratio "$ours" "$pipe")"
