#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Multiplies an execution of a stopped server's SQLite database, with its journal.

    seed.py DATABASE WORKFLOW COUNT

The newest execution of WORKFLOW is the pattern: each copy has all of its columns but the id (a UUIDv7, the oldest a day ago) and, when
it waits for a time, its due_us (spread over the 29 days after the pattern's). Triggers stay as they are, so what they count stays right.
"""
import os
import sqlite3
import sys
import time

DAY_US = 86_400_000_000
BATCH = 50_000


def new_id(ms):
    tail = bytearray(os.urandom(10))
    tail[0], tail[2] = 0x70 | tail[0] & 0x0F, 0x80 | tail[2] & 0x3F
    return ms.to_bytes(6, "big") + bytes(tail)


def columns(db, table):
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


def insert(db, table, width, rows):
    db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * width)})", rows)


def copy(db, workflow, count):
    names, journal = columns(db, "executions"), columns(db, "journal")
    id_at, due_at, own_at = names.index("id"), names.index("due_us"), journal.index("execution")
    pattern = db.execute("SELECT * FROM executions WHERE workflow = ? ORDER BY id DESC LIMIT 1", (workflow,)).fetchone()
    if pattern is None:
        raise SystemExit(f"seed.py: the database has no execution of {workflow} to copy")
    lines = db.execute("SELECT * FROM journal WHERE execution = ? ORDER BY number", (pattern[id_at],)).fetchall()
    first_ms = time.time_ns() // 1_000_000 - 86_400_000

    def execution(number, id_):
        row = list(pattern)
        row[id_at] = id_
        if row[due_at]:
            row[due_at] += number * 29 * DAY_US // count
        return row

    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        ids = [new_id(first_ms + number * 86_000_000 // count) for number in numbers]
        insert(db, "executions", len(names), map(execution, numbers, ids))
        insert(db, "journal", len(journal), (line[:own_at] + (id_,) + line[own_at + 1:] for id_ in ids for line in lines))


def main(path, workflow, count):
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = OFF", "synchronous = OFF", "cache_size = -262144"):
        db.execute(f"PRAGMA {pragma}").fetchone()
    db.execute("BEGIN")
    copy(db, workflow, count)
    db.execute("COMMIT")
    db.execute("PRAGMA journal_mode = WAL").fetchone()
    db.close()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
