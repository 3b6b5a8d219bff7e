/** Entry of the thread that holds an Engine. */
import { parentPort, workerData } from "node:worker_threads";
import { SharedCollective } from "../runtime/collective.ts";
import { serve } from "../runtime/thread.ts";
import { required } from "../utils/errors.ts";
import { Engine } from "./engine.ts";
import type { WorkerData } from "./start.ts";

const { options, memory, rank } = (workerData as { data: WorkerData }).data;
serve(
  required(parentPort, "the parent's port"),
  () => new Engine(options, memory ? new SharedCollective(memory, rank) : undefined),
);
