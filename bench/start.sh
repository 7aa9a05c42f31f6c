#!/bin/bash
# Start to ready on a warm database, and resident memory when idle (supervisor and all workers).
set -u
. "$(dirname "$0")/lib.sh"
ROUNDS=${ROUNDS:-5} SUPERVISOR=
trap '[ -n "$SUPERVISOR" ] && kill -TERM $SUPERVISOR 2>/dev/null; wait 2>/dev/null; rm -rf "$WORK"' EXIT
mkdir -p "$WORK/data"

for round in $(seq 0 "$ROUNDS"); do
  from=$(date +%s%N)
  "$MOONWATCH" serve --listen "127.0.0.1:${PORT:-19481}" --data "$WORK/data" --plugins "$ROOT/bench/plugins" >"$WORK/log" 2>&1 & SUPERVISOR=$!
  until curl -fs -o /dev/null "http://127.0.0.1:${PORT:-19481}/readyz"; do kill -0 "$SUPERVISOR" || { tail -5 "$WORK/log"; exit 1; }; done
  took=$((($(date +%s%N) - from) / 1000000))
  [ "$round" -gt 0 ] && echo "$took" >>"$WORK/took"
  if [ "$round" = "$ROUNDS" ]; then
    sleep 1
    shared=0 total=0
    for pid in $SUPERVISOR $(pgrep -P "$SUPERVISOR"); do
      shared=$((shared + $(awk '/^Pss:/ {print $2}' "/proc/$pid/smaps_rollup"))) total=$((total + $(memory_kb "$pid")))
    done
  fi
  kill -TERM "$SUPERVISOR"; wait "$SUPERVISOR"; SUPERVISOR=
done
echo "start_to_ready: $(median <"$WORK/took") ms on a warm database, polled with curl (median of $ROUNDS; bar 100 ms)"
echo "memory_idle: $total kB resident over supervisor and server, libraries counted twice; $shared kB proportional (bar 25,600 kB)"
