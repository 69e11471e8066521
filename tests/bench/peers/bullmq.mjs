// BullMQ: delayed jobs in Redis, which says by its own settings how durable they are.
import { Queue, Worker } from "bullmq";
import { call, concurrency, due, inChunks, jobs, ready, registers, say, tuned, url } from "./common.mjs";

const QUEUE = "bench";
const { hostname: host, port } = new URL(url);
const connection = { host, port: Number(port), maxRetriesPerRequest: null };
if (registers) {
  const queue = new Queue(QUEUE, { connection });
  await inChunks(2_000, (count, from) => {
    const opts = { delay: Math.max(0, due - Date.now()), removeOnComplete: tuned, attempts: 3 };
    return queue.addBulk(Array.from({ length: count }, (_, n) => ({ name: "call", data: { n: from + n }, opts })));
  });
  await queue.close();
}
say(`registered ${jobs}`);
const worker = new Worker(QUEUE, () => call(), { connection, ...(tuned ? { concurrency } : {}) });
worker.on("error", (error) => console.error(error.message));
await worker.waitUntilReady();
ready();
