// pg-boss: tuned. As it comes it takes one job every two seconds; here four pollers take batches as often as it permits.
import PgBoss from "pg-boss";
import { call, due, inChunks, jobs, ready, registers, say, url } from "./common.mjs";

const QUEUE = "bench";
const boss = new PgBoss(url);
boss.on("error", (error) => console.error(error.message));
await boss.start();
if (registers) {
  await boss.createQueue(QUEUE);
  const startAfter = new Date(due).toISOString();
  await inChunks(5_000, (count, from) =>
    boss.insert(Array.from({ length: count }, (_, n) => ({ name: QUEUE, data: { n: from + n }, startAfter }))),
  );
}
say(`registered ${jobs}`);
const options = { batchSize: 500, pollingIntervalSeconds: 0.5 };
for (let poller = 0; poller < 4; poller++) {
  await boss.work(QUEUE, options, (batch) => Promise.all(batch.map(() => call())));
}
ready();
