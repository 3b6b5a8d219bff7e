// Loaded before an entry: ends the worker of the second device when it is asked for `METHOD` for the N-th time (LOSE_WORKER=METHOD:N).
import { createRequire, syncBuiltinESMExports } from "node:module";

const threads = createRequire(import.meta.url)("node:worker_threads");
const [method, count] = (process.env.LOSE_WORKER ?? "").split(":");
let asked = 0;

threads.Worker = class extends threads.Worker {
  #isSecond;

  constructor(file, options) {
    super(file, options);
    this.#isSecond = options.workerData?.data?.rank === 1;
  }

  postMessage(message, transfer) {
    if (this.#isSecond && message.method === method && ++asked === Number(count)) {
      process.stderr.write("(a worker is ended)\n");
      this.terminate();
    } else super.postMessage(message, transfer);
  }
};
syncBuiltinESMExports();
