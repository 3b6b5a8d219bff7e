// First file of every worker thread: plain JavaScript, because a thread does not inherit the loader that reads TypeScript.
import { workerData } from "node:worker_threads";
import { register } from "tsx/esm/api";

register();
await import(workerData.file);
