#!/bin/bash
# What executions cost that only lie in the database: a million that sleep, and a million that have finished, each in a SQLite database of
# its own beside an empty one. Resident memory of supervisor and server; 3-step executions/s passed on in memory, and stored and claimed.
# Then what the imperative forms cost beside the same steps in a list. All of it in turns on servers that run at once.
# SLEEPING (1,000,000) and FINISHED (1,000,000) executions lie there; COUNT (5,000) executions a round, CONCURRENCY (256) triggers in
# flight, ROUNDS (3). FINISHED=10000000 takes some four minutes and 6 GB of TMPDIR.
set -u
. "$(dirname "$0")/lib.sh"
SLEEPING=${SLEEPING:-1000000} FINISHED=${FINISHED:-1000000}
COUNT=${COUNT:-5000} CONCURRENCY=${CONCURRENCY:-256} ROUNDS=${ROUNDS:-3}
declare -A BASES SUPERVISORS
stop_all() {
  [ ${#SUPERVISORS[@]} = 0 ] || { kill -TERM "${SUPERVISORS[@]}" 2>/dev/null; wait "${SUPERVISORS[@]}" 2>/dev/null; }
  SUPERVISORS=()
}
trap 'stop_server; stop_all; rm -rf "$WORK"' EXIT

# A stopped server's data folder with one finished and one sleeping execution.
pattern() {
  start_server empty && CONCURRENCY=1 round pattern 1 >/dev/null || return 1
  post /bench/run '{"batch":"asleep","count":1,"concurrency":1,"workflow":"bench_asleep"}' >/dev/null && until_is 10 1 asleep || return 1
  stop_server
}
asleep() { curl -fs "$BASE/api/v1/executions?status=sleeping&limit=1" | field total; }

# seed NAME WORKFLOW COUNT: the pattern's folder again, with so many executions like its one.
seed() {
  local from=$(date +%s)
  cp -r "$WORK/empty" "$WORK/$1" && rm -f "$WORK/$1/node.id" "$WORK/$1/addresses"
  python3 "$ROOT/bench/seed.py" "$WORK/$1/moonwatch.db" "$2" "$3" || return 1
  echo "seed_$1: $3 executions in $(($(date +%s) - from)) s, $(du -m "$WORK/$1/moonwatch.db" | cut -f1) MB"
}

# supervise NAME: the server as it runs in production, with its supervisor; sets BASES[NAME] and SUPERVISORS[NAME].
supervise() {
  local data=$WORK/$1
  rm -f "$data/addresses"
  "$MOONWATCH" serve --listen 127.0.0.1:0 --data "$data" --plugins "$ROOT/bench/plugins" >"$data/log" 2>&1 &
  SUPERVISORS[$1]=$!
  for _ in $(seq 500); do
    if [ -s "$data/addresses" ]; then
      BASES[$1]=http://$(awk '$1 == "main" {print $2}' "$data/addresses")
      if curl -fs -o /dev/null "${BASES[$1]}/readyz"; then return 0; fi
    fi
    sleep 0.02
  done
  echo "the server on $1 did not start:" >&2; tail -5 "$data/log" >&2; return 1
}
total_memory_kb() {
  local pid total=0
  for pid in ${SUPERVISORS[$1]} $(pgrep -P "${SUPERVISORS[$1]}"); do total=$((total + $(memory_kb "$pid"))); done
  echo "$total"
}

# turn NAME KIND COUNT SCALE [MORE]: a round on that server; its rate, times SCALE, goes to NAME.KIND.rate, the CPU time of one to NAME.KIND.cpu.
# Turn 0 warms up.
turn() {
  local rate before server
  BASE=${BASES[$1]} server=$(pgrep -P "${SUPERVISORS[$1]}") before=$(cpu_us "$server")
  rate=$(round "$2-$turn" "$3" "${5:-}") || { tail -3 "$WORK/$1/log" >&2; exit 1; }
  [ "$turn" = 0 ] && return
  echo "$((rate * $4))" >>"$WORK/$1.$2.rate"
  awk -v us="$(($(cpu_us "$server") - before))" -v n="$(($3 * $4))" 'BEGIN {printf "%.1f\n", us / n}' >>"$WORK/$1.$2.cpu"
}
rate_of() { median <"$WORK/$1.$2.rate"; }
cpu_of() { median <"$WORK/$1.$2.cpu"; }

pattern && seed sleeping bench_asleep "$SLEEPING" && seed finished bench "$FINISHED" || exit 1
names="empty sleeping finished"
for name in $names; do supervise "$name" || exit 1; done
sleep 1
for name in $names; do total_memory_kb "$name" >"$WORK/$name.idle"; done

for turn in $(seq 0 "$ROUNDS"); do
  for name in $names; do
    turn "$name" passed "$COUNT" 1
    turn "$name" claimed "$COUNT" 1 ',"delay":"1ms"'
  done
  names="${names#* } ${names%% *}" # whoever was first is last the next time
done
for name in empty sleeping finished; do total_memory_kb "$name" >"$WORK/$name.loaded"; done

for name in sleeping finished; do
  beside=$([ "$name" = sleeping ] && echo "$SLEEPING" || echo "$FINISHED")
  for kind in passed claimed; do
    echo "seeded_${name}_$kind: $(rate_of $name $kind) executions/s beside $beside $name ones, $(rate_of empty $kind)/s without," \
      "ratio $(ratio "$(rate_of $name $kind)" "$(rate_of empty $kind)"); CPU time of each $(cpu_of $name $kind) us, $(cpu_of empty $kind) us without" \
      "(median of $ROUNDS runs of $COUNT)"
  done
  for when in idle loaded; do
    with=$(cat "$WORK/$name.$when") without=$(cat "$WORK/empty.$when")
    echo "memory_${name}_$when: $with kB resident over supervisor and server beside $beside $name executions, $without kB without, $((with - without)) kB more"
  done
done

# Milliseconds that a page of executions takes: the median of seven.
page_ms() {
  local i
  for i in 1 2 3 4 5 6 7; do curl -fs -o /dev/null -w '%{time_total}\n' "${BASES[finished]}/api/v1/executions?limit=50&$1"; done | awk '{print $1 * 1000}' | median
}
pages=""
for query in "" "status=failed" "workflow=bench&status=completed" "tag=none" "group=none" "error=none" "external_id=none" "created_after=1h"; do
  pages="$pages; ${query:-all} $(page_ms "$query")"
done
echo "seeded_pages: ms for a page of 50 with its total, beside $FINISHED finished ones${pages}"

for turn in $(seq 0 "$ROUNDS"); do
  turn empty list "$COUNT" 1
  turn empty function "$COUNT" 1 ',"workflow":"bench_function"'
  turn empty parent "$((COUNT / 2))" 1 ',"workflow":"bench_parent"'
  turn empty map "$((COUNT / 50))" 100 ',"workflow":"bench_map"'
done
list=$(rate_of empty list)
for kind in function parent map; do
  case $kind in
    function) what="executions/s with 3 steps in a function" ;;
    parent) what="parents/s with one child and one step each" ;;
    map) what="items/s of ctx:map over 100, a step each" ;;
  esac
  echo "imperative_$kind: $(rate_of empty $kind) $what, $list executions/s with 3 steps in a list, ratio $(ratio "$(rate_of empty $kind)" "$list");" \
    "CPU time of each $(cpu_of empty $kind) us, $(cpu_of empty list) us in the list"
done
stop_all
