/** Which agents are to be trained: one for each fold of each user, with its samples and settings. */
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { basename, join } from "node:path";
import type { Encoded } from "../../collator.ts";
import type { Example } from "../../data/example.ts";
import { imagesOf } from "../../data/example.ts";
import { type FoldOptions, foldsOf } from "../../data/folds.ts";
import { userDir } from "../../eval/results.ts";
import type { TrainableSpec } from "../../model/trainables.ts";
import { weightsDigest } from "../../train/adapterBase.ts";
import { oneARow } from "../../train/batchSource.ts";
import type { NamedArrays } from "../../train/replica.ts";
import type { RunOptions } from "../../train/runOptions.ts";
import { required, UserError } from "../../utils/errors.ts";
import type { Log } from "../../utils/log.ts";
import type { ImageSource } from "../../vision/image.ts";
import { type EncodeAllOptions, encodeAll } from "../encodeAll.ts";
import type { Model } from "../model.ts";
import { digestOf, packed, runOptions, type TrainingSettings } from "../trainingRun.ts";

/** One fold of one user. */
export interface Agent {
  readonly user: number;
  /** From 0. */
  readonly fold: number;
  /** Training samples by the row in which they stand. */
  readonly rows: readonly (readonly Encoded[])[];
  readonly heldOut: readonly Example[];
  /** How it is trained, and the folder of its adapter. */
  readonly training: RunOptions;
  /** Folder of its answers and scores. */
  readonly answersDir: string;
}

/** What agents have no use for: validation samples, checkpoints once an agent is done, rates of weights that are frozen. */
const UNUSED: Pick<TrainingSettings, Unused> = {
  ...{ evalSteps: 1, keep: 0, loadBest: false, earlyStoppingPatience: null, earlyStoppingThreshold: 0 },
  ...{ lrVision: null, lrMerger: null, lrLlm: null, lrHead: null },
  metricForBestModel: "eval_loss",
};

type Unused =
  | "lrVision"
  | "lrMerger"
  | "lrLlm"
  | "lrHead"
  | "evalSteps"
  | "keep"
  | "loadBest"
  | "metricForBestModel"
  | "earlyStoppingPatience"
  | "earlyStoppingThreshold";

export interface AgentSettings extends Omit<TrainingSettings, Unused> {
  readonly foldBy: FoldOptions["by"];
  readonly folds: number;
  readonly packing: boolean;
}

export interface AgentContext {
  readonly model: Model;
  readonly spec: TrainableSpec;
  /** Values that every agent starts from. */
  readonly start: NamedArrays;
  /** Folder of the `user_N/` folders of answers. */
  readonly answersDir: string;
  readonly encoding: Omit<EncodeAllOptions, "split">;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/**
 * All agents, user by user; samples are encoded, so that a bad one is found before anything is trained.
 * @throws UserError where a user's samples cannot be cut into folds, one cannot be encoded, or a fold has none to learn from
 */
export async function planAgents(
  users: ReadonlyMap<number, readonly Example[]>,
  settings: AgentSettings,
  context: AgentContext,
): Promise<Agent[]> {
  const { model, encoding } = context;
  const cuts = new Map<number, Awaited<ReturnType<typeof foldsOf>>>();
  for (const [user, examples] of users)
    cuts.set(user, await foldsOf(examples, { by: settings.foldBy, folds: settings.folds, seed: settings.seed }));
  const encoded = await encodeAll([...users.values()].flat(), model.processor, { ...encoding, split: "training" });
  const byId = new Map(encoded.map((one) => [keyOf(one), one]));
  const startsFrom = { base: weightsDigest(model.checkpoint), values: digestOf(context.start) };
  return [...cuts].flatMap(([user, folds]) =>
    folds.map(({ train, heldOut }, fold) => {
      const learnt = train.flatMap((example) => byId.get(keyOf(example)) ?? []); // too long ones are left out where that is asked for
      return agentOf({ user, fold, train: learnt, heldOut, samples: [train, heldOut], startsFrom }, settings, context);
    }),
  );
}

/** Ids are those of rows in files, and files of several folders may share a name. */
const keyOf = ({ id, user }: { readonly id: string; readonly user: string | null }): string => `${user}/${id}`;

interface Cut {
  readonly user: number;
  readonly fold: number;
  readonly train: readonly Encoded[];
  readonly heldOut: readonly Example[];
  readonly samples: readonly [train: readonly Example[], heldOut: readonly Example[]];
  readonly startsFrom: object;
}

function agentOf(cut: Cut, settings: AgentSettings, { model, spec, answersDir, log, signal }: AgentContext): Agent {
  const { user, fold, train, heldOut, startsFrom } = cut;
  if (train.length === 0)
    throw new UserError(`user ${user}, fold ${fold}: no sample is left to learn from; raise --max-length`);
  const place = join(`user_${user}`, `fold_${fold}`);
  const rows = settings.packing ? packed(train) : oneARow(train);
  const checkpointDir = join(settings.checkpointDir, place);
  const training = runOptions({ ...settings, ...UNUSED, checkpointDir }, { model, spec, signal, rows, log });
  const runConfig = { ...training.runConfig, user, fold, startsFrom, samples: samplesOf(cut.samples) };
  return {
    ...{ user, fold, rows, heldOut },
    training: { ...training, runConfig, howToGoOn: "the same command goes on from there" },
    answersDir: join(userDir(answersDir, user), `fold_${fold}`),
  };
}

/** Which samples are learnt from and held out, and a hash of what they say and show: the pictures' files by size and time. */
function samplesOf([train, heldOut]: Cut["samples"]): object {
  const hash = createHash("sha256");
  for (const { messages, tools, target } of [...train, ...heldOut]) {
    hash.update(JSON.stringify([messages, tools, target], (key, value) => (PICTURES.has(key) ? null : value)));
    for (const source of imagesOf(messages)) hash.update(signOf(source));
  }
  const idsOf = (examples: readonly Example[]): string[] => examples.map(({ id }) => id);
  return { train: idsOf(train), held_out: idsOf(heldOut), sha256: hash.digest("hex") };
}

const PICTURES = new Set(["image", "video"]);

function signOf(source: ImageSource): string | Uint8Array {
  if (source.kind !== "file") return source.bytes;
  const { size, mtimeMs } = required(statSync(source.path), source.path);
  return `${basename(source.path)} ${size} ${mtimeMs}`;
}
