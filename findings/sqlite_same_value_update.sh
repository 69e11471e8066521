#!/usr/bin/env bash
# SQLite: UPDATE t SET x = x inside BEGIN IMMEDIATE … COMMIT, in WAL mode with synchronous=FULL.
#
# Guess: the row is written again, so the commit appends a frame to the write-ahead log. A health check that updates a
# row with its own value would therefore fail on a full disk.
# Seen: nothing is written. The new content of the cell is compared with the old and the page stays clean; changes() says 1
# all the same. There and back (+1, -1) writes the page, although it ends as it was.
#   SQLite 3.46.1
#   same value: 0 bytes; there and back: 4120 bytes; other value: 4120 bytes
# Version: apsw 3.46.1.0 from PyPI, which brings SQLite 3.46.1.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apsw==3.46.1.0
cat >"$folder/probe.py" <<'PY'
import os
import sys

import apsw

path = os.path.join(sys.argv[1], "t.db")
db = apsw.Connection(path)
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA synchronous = FULL")
db.execute("PRAGMA wal_autocheckpoint = 0")
db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x INTEGER)")
db.execute("INSERT INTO t VALUES (1, 5)")
log = path + "-wal"


def grown_by(*statements):
    before = os.path.getsize(log)
    db.execute("BEGIN IMMEDIATE")
    for statement in statements:
        db.execute(statement)
        assert db.changes() == 1, "it says that it changed a row"
    db.execute("COMMIT")
    return os.path.getsize(log) - before


print("SQLite", apsw.sqlite_lib_version())
same = grown_by("UPDATE t SET x = x")
there_and_back = grown_by("UPDATE t SET x = x + 1", "UPDATE t SET x = x - 1")
other = grown_by("UPDATE t SET x = x + 1")
print("same value:", same, "bytes; there and back:", there_and_back, "bytes; other value:", other, "bytes")
assert (same, there_and_back > 0, other > 0) == (0, True, True)
PY
"$folder/venv/bin/python" "$folder/probe.py" "$folder"
