# Other durable workflow engines on this machine, right after ours (bench/workflows.sh): their best rate of 3-step workflows and their best median on an idle
# server, of all settings that the harness runs, each with durable stores (PostgreSQL as it is, Redis with appendfsync always).
# PEERS names the harness's folder (../shared/peers beside the checkout): lib/servers.sh starts the stores, lib/run.sh PEER runs one and prints JSON lines. It
# installs from npm into a temporary folder. PEER_COUNT (2,000) executions a run, PEER_RUNS (1).
PEERS=${PEERS:-$ROOT/../shared/peers}

# The largest wf_per_s and the smallest p50 of the lines on standard input: "RATE of SETTING; P50 of SETTING".
best_of() {
  python3 -c '
import json, sys
rate, p50 = (0, "none"), (1e9, "none")
for line in sys.stdin:
    try: row = json.loads(line)
    except ValueError: continue
    if "wf_per_s" in row: rate = max(rate, (row["wf_per_s"]["median"], row["name"]))
    if "latency_ms" in row: p50 = min(p50, (row["latency_ms"]["p50"], row["name"].replace(" idle latency", "")))
print(rate[0], p50[0], rate[1], p50[1], sep="\t")'
}

# peer NAME ENGINE: ENGINE is ours on the same kind of store.
peer() {
  local rate p50 at_rate at_p50 ours=$(cat "$WORK/$2.ours" 2>/dev/null || echo 0)
  LABEL=aof bash "$PEERS/lib/run.sh" "$1" --n "${PEER_COUNT:-2000}" --runs "${PEER_RUNS:-1}" >"$WORK/peer-$1" 2>"$WORK/peer-$1.log" || {
    echo "workflow_peer_$1: not measured: $(tail -1 "$WORK/peer-$1.log")"
    return
  }
  IFS=$'\t' read -r rate p50 at_rate at_p50 < <(best_of <"$WORK/peer-$1")
  echo "workflow_peer_$1: $rate executions/s ($at_rate), idle p50 $p50 ms ($at_p50); ours on $2 $ours/s, ratio $(ratio "$ours" "$rate")"
}

run_peers() {
  [ -d "$PEERS" ] && command -v npm >/dev/null || { echo "workflow_peers: not measured, no harness at PEERS or no npm"; return; }
  export BENCH_DIR=$WORK/peers PEER_WORK=${PEER_WORK:-$WORK/peer-work}
  chmod 711 "$WORK"
  trap 'bash "$PEERS/lib/servers.sh" stop >/dev/null; stop_server; rm -rf "$WORK"' EXIT
  bash "$PEERS/lib/servers.sh" start aof >/dev/null || return
  for name in dbos graphile-worker pg-boss; do peer "$name" postgres; done
  peer bullmq sqlite # on Redis: the nearest is the store that is in process
}
run_peers
