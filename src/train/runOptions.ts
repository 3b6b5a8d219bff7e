/** What a training run is told: where it writes, what it trains on, what it keeps and tells. */
import type { JsonObject } from "../utils/json.ts";
import type { Log } from "../utils/log.ts";
import type { startProgress } from "../utils/progress.ts";
import type { Summary } from "../utils/tensorBoard/event.ts";
import type { MetricName } from "./best.ts";
import type { RunResult } from "./checkpointReader.ts";
import type { CheckpointSource } from "./checkpointStore.ts";
import type { ReportTo } from "./journal/journal.ts";
import type { BatchSource, TrainerOptions } from "./trainer.ts";
import type { ValidationData } from "./validation.ts";

export interface RunOptions {
  /** Folder that the run writes. */
  readonly runDir: string;
  readonly trainer: TrainerOptions;
  readonly saveSteps: number;
  readonly evalSteps: number;
  /** Checkpoints kept, the best among them; 0: while the run is unfinished one, then none, the result is enough. */
  readonly keep: number;
  /** What to do to go on after an interruption. */
  readonly howToGoOn?: string;
  /** Shows the steps, where they are part of something longer. */
  readonly showProgress?: typeof startProgress;
  /** What the best checkpoint is chosen by. */
  readonly metricForBestModel: MetricName;
  /** Whether the result is the best checkpoint, rather than the last step. */
  readonly loadBest: boolean;
  /** Ends the run after so many evaluations in a row without a gain above the threshold; null: never. */
  readonly earlyStopping: { readonly patience: number; readonly threshold: number } | null;
  readonly lora: RunResult["lora"];
  readonly source: CheckpointSource;
  /** All settings, for run_config.json. */
  readonly runConfig: JsonObject;
  readonly reportTo: ReportTo;
  /** Texts and pictures of what the run is about, told to TensorBoard once. */
  readonly introduction?: () => Promise<readonly Summary[]>;
  readonly log: Log;
}

/** Where the batches of a run come from. */
export interface RunData extends ValidationData {
  readonly train: BatchSource;
}
