// pg-boss: node use_pg_boss.mjs enqueue|batched|recorded JOBS

import { PgBoss } from "pg-boss";

import { BATCH, report, seconds, slices, step, Tally, url } from "./job.mjs";

const QUEUE = "noop";
const RECORDERS = 8;

const boss = new PgBoss({ connectionString: url, schedule: false, max: 10 });
boss.on("error", (error) => {
  console.error(error.message);
  process.exitCode = 1;
});
await boss.start();

async function enqueue() {
  await boss.createQueue(QUEUE);
  return seconds(async () => {
    for (const numbers of slices()) {
      await boss.insert(QUEUE, numbers.map((n) => ({ data: { n } })));
    }
  });
}

// A whole batch is fetched and completed in one statement each.
async function batched(tally) {
  const options = { batchSize: BATCH, localConcurrency: 4, burstWhenBatchFull: true };
  await boss.work(QUEUE, { ...options, pollingIntervalSeconds: 0.5 }, async (batch) => {
    for (const { data } of batch) tally.ran(data.n);
  });
  await tally.all;
  await boss.offWork(QUEUE, { wait: true });
}

// A worker with batchSize 1 pauses half a second between jobs, so this uses the documented way to
// pull jobs directly: they are fetched in batches, and each is completed before the next begins.
async function recorded(tally) {
  const recorder = async () => {
    for (;;) {
      const batch = await boss.fetch(QUEUE, { batchSize: 64 });
      if (batch.length === 0) return;
      for (const { id, data } of batch) {
        tally.ran(data.n);
        await boss.complete(QUEUE, id);
      }
    }
  };
  await Promise.all(Array.from({ length: RECORDERS }, recorder));
}

if (step === "enqueue") {
  report("pg-boss", await enqueue());
} else {
  const tally = new Tally();
  report("pg-boss", await seconds(() => (step === "batched" ? batched : recorded)(tally)), tally);
}
await boss.stop();
