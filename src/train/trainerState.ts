/** trainer_state.json as transformers writes and reads it. Source: transformers 5.18, trainer_callback.py, TrainerState. */
import { join } from "node:path";
import { UserError } from "../utils/errors.ts";
import { writeJson } from "../utils/files.ts";
import { isJsonObject, type JsonObject, readJsonObject } from "../utils/json.ts";

export const TRAINER_STATE = "trainer_state.json";

export interface TrainerState {
  readonly best_global_step: number | null;
  readonly best_metric: number | null;
  readonly best_model_checkpoint: string | null;
  /** Passes over the data, with a fraction. */
  readonly epoch: number;
  readonly eval_steps: number;
  /** Optimizer steps done. */
  readonly global_step: number;
  readonly is_hyper_param_search: boolean;
  readonly is_local_process_zero: boolean;
  readonly is_world_process_zero: boolean;
  /** Rows `{step, epoch, loss, grad_norm, learning_rate, num_tokens}` and rows of evaluations. */
  readonly log_history: readonly JsonObject[];
  readonly logging_steps: number;
  readonly max_steps: number;
  readonly num_input_tokens_seen: number;
  readonly num_train_epochs: number;
  readonly save_steps: number;
  /** What transformers' callbacks would go on from, by their names. */
  readonly stateful_callbacks: JsonObject;
  readonly total_flos: number;
  readonly train_batch_size: number | null;
  readonly trial_name: string | null;
  readonly trial_params: JsonObject | null;
}

const DEFAULTS: TrainerState = {
  best_global_step: null,
  best_metric: null,
  best_model_checkpoint: null,
  epoch: 0,
  eval_steps: 500,
  global_step: 0,
  is_hyper_param_search: false,
  is_local_process_zero: true,
  is_world_process_zero: true,
  log_history: [],
  logging_steps: 500,
  max_steps: 0,
  num_input_tokens_seen: 0,
  num_train_epochs: 0,
  save_steps: 500,
  stateful_callbacks: {},
  total_flos: 0,
  train_batch_size: null,
  trial_name: null,
  trial_params: null,
};

/** The state with transformers' defaults where nothing is said. */
export const trainerState = (known: Partial<TrainerState>): TrainerState => ({ ...DEFAULTS, ...known });

/** How many evaluations in a row without a gain end a run, how many there were, and by how much a gain must be one. */
export interface Patience {
  readonly patience: number;
  readonly threshold: number;
  readonly counter: number;
}

/** As transformers' TrainerControl and EarlyStoppingCallback leave them in a checkpoint. @param patience null: nothing stops early */
export function callbacksState(isOver: boolean, patience: Patience | null): JsonObject {
  const control = {
    ...{ should_epoch_stop: false, should_evaluate: false, should_log: false, should_save: true },
    should_training_stop: isOver,
  };
  const stopping = patience && {
    args: { early_stopping_patience: patience.patience, early_stopping_threshold: patience.threshold },
    attributes: { early_stopping_patience_counter: patience.counter },
  };
  return {
    TrainerControl: { args: control, attributes: {} },
    ...(stopping ? { EarlyStoppingCallback: stopping } : {}),
  };
}

/** Our own part of the file. transformers refuses unknown fields, but keeps whatever callbacks leave here. */
const OURS = "QwenFinetuneCursor";

export const writeTrainerState = (dir: string, state: TrainerState, cursor: JsonObject | null): Promise<void> => {
  const ours = cursor ? { [OURS]: { args: {}, attributes: cursor } } : {};
  const callbacks = { ...state.stateful_callbacks, ...ours };
  const fields = Object.entries({ ...state, stateful_callbacks: callbacks });
  return writeJson(join(dir, TRAINER_STATE), Object.fromEntries(fields.sort(([a], [b]) => (a < b ? -1 : 1))));
};

/** @throws UserError when the file is missing, broken or no trainer state */
export function readTrainerState(dir: string): { state: TrainerState; cursor: JsonObject | null } {
  const file = join(dir, TRAINER_STATE);
  const json = readJsonObject(file, "it says how far training had come");
  const { global_step: step, log_history: rows, stateful_callbacks: callbacks } = json;
  if (!Number.isInteger(step) || Number(step) < 0)
    throw new UserError(`${file}: global_step is ${JSON.stringify(step)}; expected the number of steps done`);
  if (!Array.isArray(rows) || !rows.every(isJsonObject))
    throw new UserError(`${file}: log_history should be a list of rows`);
  const known = Object.entries(json).filter(([key]) => Object.hasOwn(DEFAULTS, key));
  const { [OURS]: ours, ...theirs } = isJsonObject(callbacks) ? callbacks : {};
  const cursor = isJsonObject(ours) && isJsonObject(ours.attributes) ? ours.attributes : null;
  return { state: trainerState({ ...Object.fromEntries(known), stateful_callbacks: theirs }), cursor };
}
