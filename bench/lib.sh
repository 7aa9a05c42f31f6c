# What the benchmarks share: a server of ours in a temporary folder, and a few numbers of it.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
MOONWATCH=${MOONWATCH:-$ROOT/build/release/moonwatch}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/moonwatch-bench.XXXXXX")
SERVER=

stop_server() {
  if [ -n "$SERVER" ]; then kill -TERM "$SERVER" 2>/dev/null; wait "$SERVER" 2>/dev/null; fi
  SERVER=
}

# start_server NAME ARGS… : sets BASE (http://…) and SERVER (its process id).
start_server() {
  local data=$WORK/$1; shift
  mkdir -p "$data"
  "$MOONWATCH" serve --no-supervisor --listen 127.0.0.1:0 --data "$data" --plugins "$ROOT/bench/plugins" "$@" >"$data/log" 2>&1 &
  SERVER=$!
  for _ in $(seq 500); do
    if [ -s "$data/addresses" ]; then
      BASE=http://$(awk '$1 == "main" {print $2}' "$data/addresses")
      if curl -fs -o /dev/null "$BASE/readyz"; then return 0; fi
    fi
    kill -0 "$SERVER" 2>/dev/null || break
    sleep 0.02
  done
  echo "the server did not start:" >&2; tail -5 "$data/log" >&2; return 1
}

# start_nginx PORT: nginx with its Lua module, one worker, answers /hello; sets NGINX (its process id).
NGINX=
start_nginx() {
  mkdir -p "$WORK/nginx"
  sed "s#@WORK@#$WORK/nginx#g; s#@MODULES@#/usr/lib/nginx/modules#g; s#@PORT@#$1#g" "$ROOT/bench/nginx.conf.in" >"$WORK/nginx/nginx.conf"
  nginx -c "$WORK/nginx/nginx.conf" 2>"$WORK/nginx/stderr" & NGINX=$!
  for _ in $(seq 100); do curl -fs -o /dev/null "http://127.0.0.1:$1/hello" && return 0; sleep 0.05; done
  echo "nginx did not start:" >&2; tail -5 "$WORK/nginx/stderr" "$WORK/nginx/error.log" >&2; return 1
}
stop_nginx() { [ -z "$NGINX" ] || kill -QUIT "$NGINX" 2>/dev/null; }

# CPU time of a process, or of its threads with a name, in microseconds
cpu_us() {
  local task
  for task in /proc/"$1"/task/*; do
    case $(cat "$task/comm") in *"${2:-}"*) cat "$task/schedstat" ;; esac
  done | awk '{t += $1} END {printf "%d", t / 1000}'
}
# measure FN COUNT: calls FN COUNT, which has the server do something that often and prints the seconds it took; appends its rate to ours.rate
# and the CPU time of one, in microseconds, to ours.cpu.
measure() {
  local before=$(cpu_us "$SERVER") seconds after
  seconds=$("$1" "$2")
  after=$(cpu_us "$SERVER")
  awk -v n="$2" -v s="$seconds" 'BEGIN {printf "%.0f\n", n / s}' >>"$WORK/ours.rate"
  awk -v n="$2" -v us="$((after - before))" 'BEGIN {printf "%.2f\n", us / n}' >>"$WORK/ours.cpu"
}
# in_turns ROUNDS A B: whoever is second this time is first the next.
in_turns() {
  local i
  for i in $(seq "$1"); do if [ $((i % 2)) = 0 ]; then "$2"; "$3"; else "$3"; "$2"; fi; done
}
memory_kb() { awk '/^VmRSS/ {print $2}' "/proc/$1/status"; }
# median of the numbers on standard input
median() { sort -n | awk '{v[NR] = $1} END {print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.2f", (b > 0 ? a / b : 0)}'; }
field() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p"; }

# ---- workflows of bench/plugins ----

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

# round BATCH COUNT [MORE]: executions a second until the last one is committed. MORE: what else to ask /bench/run, as `,"workflow":"…"`.
round() {
  local from=$(date +%s%N)
  post /bench/run "{\"batch\":\"$1\",\"count\":$2,\"concurrency\":$CONCURRENCY${3:-}}" >/dev/null || return 1
  until_is 60 "$2" last_steps "$1" && until_is 60 0 running || return 1
  awk -v n="$2" -v t="$(($(date +%s%N) - from))" 'BEGIN {printf "%.0f\n", n * 1e9 / t}'
}
