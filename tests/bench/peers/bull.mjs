// A drain of no-op jobs by BullMQ, its results stored: `node bull.mjs <port> <jobs>`, with NODE_PATH leading to bullmq.
// Prints one JSON object.
import { createRequire } from "node:module";

const { Queue, Worker } = createRequire(process.env.BULLMQ + "/")("bullmq");
const [port, jobs] = process.argv.slice(2).map(Number);
const connection = { host: "127.0.0.1", port, maxRetriesPerRequest: null };
const queue = new Queue("bench", { connection });
const padding = "x".repeat(300);
for (let from = 0; from < jobs; from += 1000) {
  const count = Math.min(1000, jobs - from);
  await queue.addBulk(Array.from({ length: count }, (_, at) => ({ name: "noop", data: { number: from + at, padding } })));
}
let done = 0;
let first = 0n;
const ended = new Promise((resolve) => {
  const worker = new Worker("bench", async (job) => job.data.number, { connection, concurrency: 100 });
  worker.on("completed", () => {
    if (++done === 1) first = process.hrtime.bigint();
    if (done === jobs) resolve([worker, process.hrtime.bigint()]);
  });
});
const [worker, last] = await ended;
console.log(JSON.stringify({ per_s: Math.round((jobs - 1) / (Number(last - first) / 1e9)) }));
await worker.close();
await queue.close();
process.exit(0);
