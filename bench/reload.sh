#!/bin/bash
# 100 plugins reloaded again and again while wrk asks a route of one of them: latency with and without reloads, in turns, one worker.
set -u
. "$(dirname "$0")/lib.sh"
ROUNDS=${ROUNDS:-3} SECONDS_EACH=${SECONDS_EACH:-4} PLUGINS=${PLUGINS:-100} EVERY=${EVERY:-0.5}
trap 'stop_server; rm -rf "$WORK"' EXIT

# Of a realistic size: a route, a workflow of three steps, a table of settings, some helpers; about 3 kB each.
mkdir -p "$WORK/plugins"
for n in $(seq "$PLUGINS"); do
  {
    echo 'local mw = require "mw"'
    echo 'local settings = {'
    for i in $(seq 20); do echo "  option$i = { name = \"option $i of plugin $n\", default = $i, values = { $i, $((i * 2)), $((i * 3)) } },"; done
    echo '}'
    for i in $(seq 5); do echo "local function helper$i(a, b) local sum = 0 for i = 1, #a do sum = sum + (b[i] or $i) end return sum end"; done
    echo "mw.get(\"/p$n/:id\", function(req, res) res:json { id = req.params.id, of = settings.option3.name, n = helper1({ 1, 2 }, { 3 }) } end)"
    echo "mw.workflow(\"w$n\", {"
    for i in 1 2 3; do echo "  { name = \"s$i\", retries = 3, timeout = \"10s\", run = function(ctx) return { n = helper$((i + 1))({ 1 }, { ctx.input.n }) } end },"; done
    echo '})'
  } >"$WORK/plugins/p$n.lua"
done

start_server reload --workers 1 --plugins "$WORK/plugins" || exit 1
SOCKET=$WORK/reload/moonwatch.sock
reload() { curl -fsS -o /dev/null -w '%{time_total}\n' --unix-socket "$SOCKET" -X POST -H 'content-type: application/json' -d '{}' http://localhost/api/v1/reload; }
latency() { # NAME: p50 and p99 in ms, errors
  wrk -t1 -c4 -d"${SECONDS_EACH}s" --latency "$BASE/p42/x" >"$WORK/wrk"
  awk -v errors=0 'function ms(t) { return t ~ /us$/ ? t / 1000 : t ~ /ms$/ ? t + 0 : t * 1000 }
    /^ +50%/ { a = ms($2) } /^ +99%/ { b = ms($2) } /Socket errors|Non-2xx/ { errors = 1 } END { print a, b, errors }' "$WORK/wrk" >>"$WORK/$1"
}
latency warm; reload >/dev/null
for _ in $(seq "$ROUNDS"); do
  latency quiet
  (while :; do reload >>"$WORK/took"; sleep "$EVERY"; done) & RELOADER=$!
  latency reloading
  kill $RELOADER 2>/dev/null; wait $RELOADER 2>/dev/null
done
of() { awk -v c="$2" '{print $c}' "$WORK/$1" | median; }
count=$(wc -l <"$WORK/took") errors=$(awk '{e += $3} END {print e}' "$WORK/quiet" "$WORK/reloading")
echo "reload: p50 $(of reloading 1) ms, p99 $(of reloading 2) ms with $count reloads of $PLUGINS plugins in $((ROUNDS * SECONDS_EACH)) s; p50 $(of quiet 1) ms, p99 $(of quiet 2) ms without"
awk -v a="$(of reloading 2)" -v b="$(of quiet 2)" -v e="$errors" 'BEGIN {printf "reload: p99 rises by %.2f ms (bar 10 ms), %s requests failed\n", a - b, (e > 0 ? "some" : "no")}'
echo "reload: one takes $(awk '{print $1 * 1000}' "$WORK/took" | median) ms (median)"
