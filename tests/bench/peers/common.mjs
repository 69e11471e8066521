// What every peer's script shares: the arguments, the HTTP client, and the two lines that the benchmark waits for.
//
// Each script registers `jobs` jobs that are all due at `due` (unix ms), starts its worker, says "ready", and makes
// one POST of the same body to the same sink per job. The benchmark decides when the last one is settled, by the
// peer's own tables, and ends the script.
import { Pool } from "undici";

const args = Object.fromEntries(process.argv.slice(2).map((arg) => arg.split(/=(.*)/s).slice(0, 2)));

export const url = args.url;
export const jobs = Number(args.jobs);
export const due = Number(args.due);
export const tuned = args.tuned === "true";
export const registers = args.registers !== "false";
export const body = args.body;
export const concurrency = 64;

const sink = new URL(args.sink);
const pool = new Pool(sink.origin, { connections: concurrency, pipelining: 1, keepAliveTimeout: 60_000 });
const headers = { "content-type": "application/json" };

export async function call() {
  const answer = await pool.request({ path: sink.pathname, method: "POST", headers, body });
  await answer.body.dump();
  if (answer.statusCode !== 200) throw new Error(`the sink answered ${answer.statusCode}`);
}

export async function inChunks(size, add) {
  for (let from = 0; from < jobs; from += size) await add(Math.min(size, jobs - from), from);
}

export function ready() {
  console.log("ready");
}

export function say(what) {
  console.log(what);
}
