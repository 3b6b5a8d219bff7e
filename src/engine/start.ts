/** Starts an Engine in a thread of its own for each device, so that the event loop stays free while they compute. */
import { breakOff, type SharedMemory, sharedMemory } from "../runtime/collective.ts";
import { type Device, deviceName } from "../runtime/device.ts";
import { type Remote, startThread, type Thread } from "../runtime/thread.ts";
import { withinTime } from "../utils/time.ts";
import type { Engine, EngineOptions } from "./engine.ts";
import { EngineGroup } from "./group.ts";

export type RemoteEngine = Remote<Engine>;

/** Plain data: it crosses threads. */
export interface WorkerData {
  readonly options: EngineOptions;
  /** What it shares with the workers of other devices; null where it is the only one. */
  readonly memory: SharedMemory | null;
  readonly rank: number;
}

/** Engines under one face, and how to end them. */
export interface RunningEngine {
  readonly remote: RemoteEngine;
  /** Ends the threads when the calls under way are done; new ones fail. */
  stop(): Promise<void>;
}

const startWorker = (data: WorkerData): Thread<Engine> =>
  startThread<Engine>(new URL("./worker.ts", import.meta.url), data);

/** `EngineOptions` errors (a broken checkpoint, say) surface at the first call. */
export const startEngine = (options: EngineOptions): Thread<Engine> => startWorker({ options, memory: null, rank: 0 });

/** One engine for each device; what several of them compute is what one would. */
export function startEngines(options: Omit<EngineOptions, "device">, devices: readonly Device[]): RunningEngine {
  const [only, ...others] = devices;
  if (only && others.length === 0) return startEngine({ ...options, device: only });
  const memory = sharedMemory(devices.length);
  const workers = devices.map((device, rank) =>
    startWorker({ options: { ...options, device: { ...device, sharesCores: true } }, memory, rank }),
  );
  const members = workers.map(({ remote, died }, rank) => {
    const name = `device ${deviceName(devices[rank] as Device)} (${rank + 1} of ${devices.length})`;
    return { name, remote, died };
  });
  const group = new EngineGroup(members, () => breakOff(memory));
  return { remote: group, stop: () => stopAll(workers, group) };
}

/** How long a run that has lost a device waits for the others to come to the end of what they are computing. */
const GRACE_MS = 3_000;

async function stopAll(workers: readonly Thread<Engine>[], group: EngineGroup): Promise<void> {
  const stopped = Promise.all(workers.map((worker) => worker.stop())).then(() => true);
  if (!group.isBroken) return void (await stopped);
  if (await withinTime(stopped, GRACE_MS, () => false)) return;
  for (const worker of workers) worker.abandon();
  // a thread inside native code cannot be ended, and a process that exits would wait for it: whatever was to be told is told by then
  process.once("exit", () => process.kill(process.pid, "SIGKILL"));
}
