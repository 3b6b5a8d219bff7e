/** Starts an Engine in a thread of its own, so that the event loop stays free while it computes. */
import { type Remote, startThread, type Thread } from "../runtime/thread.ts";
import type { Engine, EngineOptions } from "./engine.ts";

export type RemoteEngine = Remote<Engine>;

/** `EngineOptions` errors (a broken checkpoint, say) surface at the first call. */
export const startEngine = (options: EngineOptions): Thread<Engine> =>
  startThread<Engine>(new URL("./worker.ts", import.meta.url), options);
