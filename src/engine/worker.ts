/** Entry of the thread that holds an Engine. */
import { parentPort, workerData } from "node:worker_threads";
import { serve } from "../runtime/thread.ts";
import { required } from "../utils/errors.ts";
import { Engine, type EngineOptions } from "./engine.ts";

serve(required(parentPort, "the parent's port"), () => new Engine((workerData as { data: EngineOptions }).data));
