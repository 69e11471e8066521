// graphile-worker: tuned as its own performance page does it, and as it comes.
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import { call, concurrency, due, inChunks, jobs, ready, registers, say, tuned, url } from "./common.mjs";

// One line per successful job is what its default logger costs; the tuned one is silent about success.
const quiet = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(level, message);
});

const utils = await makeWorkerUtils({ connectionString: url, logger: quiet });
await utils.migrate();
if (registers) {
  const runAt = new Date(due);
  await inChunks(5_000, (count, from) =>
    utils.addJobs(Array.from({ length: count }, (_, n) => ({ identifier: "call", payload: { n: from + n }, runAt }))),
  );
}
await utils.release();
say(`registered ${jobs}`);

const preset = tuned
  ? {
      worker: {
        connectionString: url,
        concurrentJobs: concurrency,
        maxPoolSize: 10,
        pollInterval: 100,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        logger: quiet,
      },
    }
  : { worker: { connectionString: url } };
await run({ preset, taskList: { call: () => call() } });
ready();
