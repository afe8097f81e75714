// graphile-worker: node use_graphile.mjs enqueue|batched|plain|recorded|recorded-plain JOBS

import { Logger, makeWorkerUtils, run } from "graphile-worker";

import { report, seconds, slices, step, Tally, url } from "./job.mjs";

const logger = new Logger(() => () => {});

// "batched" is the configuration of the project's own performance page. Without
// completeJobBatchDelay each job is released by a separate statement, but a worker takes the next
// job without waiting for it, so concurrentJobs does not limit what a kill leaves in doubt.
const LOCAL_QUEUE = { localQueue: { size: 500, refetchDelay: { durationMs: 10 } } };
const SETTINGS = {
  batched: { concurrentJobs: 24, ...LOCAL_QUEUE, completeJobBatchDelay: 0, failJobBatchDelay: 0 },
  plain: { concurrentJobs: 24 },
  recorded: { concurrentJobs: 8, ...LOCAL_QUEUE },
  "recorded-plain": { concurrentJobs: 8 },
};

async function enqueue() {
  const utils = await makeWorkerUtils({ connectionString: url, logger });
  await utils.migrate();
  const took = await seconds(async () => {
    for (const numbers of slices()) {
      await utils.addJobs(numbers.map((n) => ({ identifier: "noop", payload: { n } })));
    }
  });
  await utils.release();
  report("graphile-worker", took);
}

// stop() does not wait for pending releases, and they are lost when it closes the pool.
async function released(utils) {
  const left = "SELECT EXISTS (SELECT FROM graphile_worker._private_jobs) AS any";
  while ((await utils.withPgClient((client) => client.query(left))).rows[0].any) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function workOff() {
  const { concurrentJobs } = SETTINGS[step];
  const worker = {
    connectionString: url,
    maxPoolSize: Math.max(10, concurrentJobs + 2),
    logger,
    ...SETTINGS[step],
  };
  const utils = await makeWorkerUtils({ connectionString: url, logger });
  const tally = new Tally();
  const took = await seconds(async () => {
    const runner = await run({
      preset: { worker },
      taskList: { noop: ({ n }) => tally.ran(n) },
      noHandleSignals: true,
    });
    await tally.all;
    await released(utils);
    await runner.stop();
  });
  await utils.release();
  report("graphile-worker", took, tally);
}

await (step === "enqueue" ? enqueue() : workOff());
