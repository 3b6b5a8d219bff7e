/** What personal agents start from: the global agent, as an adapter over its model or as a whole model, or the plain model. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { USER_SPLIT } from "../../config.ts";
import type { Checkpoint } from "../../model/checkpoint.ts";
import type { TrainableSpec } from "../../model/trainables.ts";
import { ADAPTER_CONFIG } from "../../train/adapterConfig.ts";
import { listCheckpoints } from "../../train/checkpointFolders.ts";
import { RUN_CONFIG } from "../../train/checkpointReader.ts";
import type { NamedArrays } from "../../train/replica.ts";
import { required, UserError } from "../../utils/errors.ts";
import { type JsonObject, readJsonObject } from "../../utils/json.ts";
import type { Log } from "../../utils/log.ts";
import { readVisionSettings } from "../../vision/settings.ts";
import { readVideoBudget } from "../../vision/videoBudget.ts";
import { type StartOptions, startingPoint } from "../startingPoint.ts";

export interface BaseOptions {
  /** Folder, "none" for the plain model, or null for where the global run leaves its agent. */
  readonly base: string | null;
  /** The model under the agent; null for the embedded one. */
  readonly model: string | null;
  readonly data: string | null;
  readonly minPixels: number | null;
  readonly maxPixels: number | null;
  readonly maxImageTokens: number | null;
  readonly maxVideoPixels: number | null;
  readonly log: Log;
}

export interface Base {
  /** Folder of the global agent; null where there is none. */
  readonly dir: string | null;
  /** The adapter to train on; null where a new one is put on the model. */
  readonly adapter: string | null;
  /** The model under the adapter: a folder, a hub id, or null for the embedded one. */
  readonly model: string | null;
  /** Sizes of pictures: those that the agent was trained with, unless flags say others. */
  readonly limits: Pick<BaseOptions, "minPixels" | "maxPixels" | "maxImageTokens" | "maxVideoPixels">;
}

const GLOBAL_RUNS = ["checkpoints/global_agent_lora", "checkpoints/global_agent_full"] as const;

/** @throws UserError where there is no global agent, its run is unfinished, or it belongs to another model */
export function findBase(options: BaseOptions): Base {
  const { base, model, log } = options;
  if (base === "none") return { dir: null, adapter: null, model, limits: limitsOf(options) };
  const dir = base ?? globalRun(options);
  const kind = kindOf(dir);
  if (kind === null) throw new UserError(missing(dir, options));
  refuseOtherModel(dir, options);
  log.line(`starting from the ${kind === "adapter" ? "adapter" : "model"} in ${dir}`);
  const limits = agentLimits(dir, options);
  return kind === "adapter" ? { dir, adapter: dir, model, limits } : { dir, adapter: null, model: dir, limits };
}

/** Where the global run leaves its agent: the adapter, where there are both. */
const globalRun = (options: BaseOptions): string => {
  const found = GLOBAL_RUNS.find((dir) => kindOf(dir) !== null);
  if (found !== undefined) return found;
  const begun = GLOBAL_RUNS.find((dir) => listCheckpoints(dir).whole.length > 0);
  throw new UserError(begun === undefined ? none(options) : missing(begun, options));
};

/** What lies in a folder; null for neither. */
function kindOf(dir: string): "adapter" | "model" | null {
  if (existsSync(join(dir, ADAPTER_CONFIG))) return "adapter";
  return existsSync(join(dir, "config.json")) ? "model" : null;
}

const OTHER_WAYS = "name another folder with --base, or start from the plain model with --base none";

const none = (options: BaseOptions): string =>
  `no global agent in ${GLOBAL_RUNS.join(" or ")}: train one with \`${command(options, "--lora")}\`, ${OTHER_WAYS}`;

function missing(dir: string, options: BaseOptions): string {
  if (!existsSync(dir))
    return `--base ${dir}: no such folder; train a global agent with \`${command(options, "--lora")}\`, ${OTHER_WAYS}`;
  const [newest] = listCheckpoints(dir).whole;
  if (!newest) return `--base ${dir}: holds neither ${ADAPTER_CONFIG} nor config.json; ${OTHER_WAYS}`;
  const lora = kindOf(newest.dir) === "adapter" ? "--lora --resume" : "--resume";
  return `${dir}: its run stopped after step ${newest.step}; end it with \`${command(options, lora)}\`, or ${OTHER_WAYS}`;
}

function command({ model, data }: BaseOptions, flags: string): string {
  const own = [model === null ? "" : ` --model ${model}`, data === null ? "" : ` --data ${data}`].join("");
  return `npx tsx src/finetuneGlobal.ts 0 ${flags}${own}`;
}

/** An agent on the wrong base answers nonsense where shapes happen to fit. */
function refuseOtherModel(dir: string, { model, log }: BaseOptions): void {
  const own = madeFrom(dir);
  if (own === undefined && model === null)
    throw new UserError(`--base ${dir}: nothing there tells from which model it was trained; name that with --model`);
  if (own === undefined || own === model || (own !== null && model !== null && resolve(own) === resolve(model))) return;
  if (own === null)
    throw new UserError(
      `--base ${dir}: was trained from the embedded model, not from --model ${model}; leave --model out`,
    );
  if (model === null) throw new UserError(`--base ${dir}: was trained from ${own}; name that with --model ${own}`);
  log.warn(`${dir} was trained from ${own}; --model ${model} is taken for the same model at another place`);
}

/** The model that an agent was trained from, null for the embedded one; undefined where nothing tells. */
function madeFrom(dir: string): string | null | undefined {
  const text = (value: unknown): string | null | undefined =>
    value === null || typeof value === "string" ? value : undefined;
  const runConfig = runConfigOf(dir);
  if (runConfig) return text(runConfig.model);
  if (kindOf(dir) !== "adapter") return undefined;
  return (
    text(readJsonObject(join(dir, ADAPTER_CONFIG), "it describes the adapter").base_model_name_or_path) ?? undefined
  );
}

/** How the agent's own run was set; null where another program made it. */
export const runConfigOf = (dir: string): JsonObject | null =>
  existsSync(join(dir, RUN_CONFIG)) ? readJsonObject(join(dir, RUN_CONFIG), "it holds the settings of the run") : null;

/**
 * The adapter that every agent starts from: the global one, or a new one.
 * @throws UserError where flags ask for another adapter than the global one, or targets match nothing
 */
export function startingAgent(
  options: Omit<StartOptions, "lora" | "adapter" | "trainVision">,
  { adapter, dir }: Base,
  checkpoint: Checkpoint,
): { readonly spec: TrainableSpec; readonly values: NamedArrays } {
  try {
    const { spec, values } = startingPoint({ ...options, lora: true, trainVision: false, adapter }, checkpoint);
    return { spec, values: required(values, "values of an adapter") };
  } catch (cause) {
    if (!(cause instanceof UserError) || !cause.message.startsWith("--adapter ")) throw cause;
    throw new UserError(cause.message.replace(`--adapter ${dir}`, `--base ${dir}`), { cause });
  }
}

/**
 * Answers of users that the global agent was trained on would flatter it.
 * @throws UserError naming such users, as far as the agent's own run tells
 */
export function refuseSeen({ dir }: Base, users: readonly number[], { data }: { readonly data: string | null }): void {
  const run = dir === null ? null : runConfigOf(dir);
  if (!run || run.data !== data) return;
  const [from, to] = USER_SPLIT.train;
  const named: unknown = run.trainUsers;
  const isSeen = (user: number): boolean =>
    Array.isArray(named) ? named.includes(user) : data === null && user >= from && user <= to;
  const seen = users.filter(isSeen);
  if (seen.length > 0)
    throw new UserError(
      `--u: the global agent in ${dir} was trained on user ${seen.join(", ")}, whose scores would say little; choose others, or pass --allow-overlap`,
    );
}

const limitsOf = ({ minPixels, maxPixels, maxImageTokens, maxVideoPixels }: BaseOptions): Base["limits"] => ({
  ...{ minPixels, maxPixels, maxImageTokens, maxVideoPixels },
});

function agentLimits(dir: string, options: BaseOptions): Base["limits"] {
  if (!["preprocessor_config.json", "processor_config.json"].some((name) => existsSync(join(dir, name))))
    return limitsOf(options);
  const own = readVisionSettings(dir);
  return {
    minPixels: options.minPixels ?? own.minPixels,
    maxPixels: options.maxPixels ?? (options.maxImageTokens === null ? own.maxPixels : null),
    maxImageTokens: options.maxImageTokens,
    maxVideoPixels: options.maxVideoPixels ?? readVideoBudget(dir, own).maxPixels,
  };
}
