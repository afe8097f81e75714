// Shared by both programs: arguments, counting each job's runs, and the report.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

export const url = process.env.DATABASE_URL;
export const [, , step, size] = process.argv;
export const jobs = Number(size);
export const BATCH = 1000;

/** Counts how often each job ran; `all` resolves when the last one has. */
export class Tally {
  #runs = new Uint32Array(jobs);
  #ran = 0;

  constructor() {
    this.all = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  #resolve;

  ran(number) {
    this.#runs[number] += 1;
    this.#ran += 1;
    if (this.#ran === jobs) this.#resolve();
  }

  get counts() {
    return { ran: this.#ran, distinct: this.#runs.filter((runs) => runs > 0).length };
  }
}

/** Measures how many seconds the work takes. */
export async function seconds(work) {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

/** Yields the job numbers in slices, in the order they are enqueued. */
export function* slices() {
  for (let from = 0; from < jobs; from += BATCH) {
    yield Array.from({ length: Math.min(BATCH, jobs - from) }, (_, n) => from + n);
  }
}

/** One line of JSON for the runner. */
export function report(name, took, tally) {
  const folder = dirname(createRequire(import.meta.url).resolve(name));
  const { version } = JSON.parse(readFileSync(join(folder, "..", "package.json")));
  console.log(JSON.stringify({ version, seconds: took, ...tally?.counts }));
}
