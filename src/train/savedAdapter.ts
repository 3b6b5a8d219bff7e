/** Reads an adapter back as it was written: a file that cannot be loaded is better found now than when it is needed. */
import { join } from "node:path";
import type { Checkpoint } from "../model/checkpoint.ts";
import { UserError } from "../utils/errors.ts";
import { ADAPTER_WEIGHTS, type Adapter, readAdapter } from "./adapterFiles.ts";
import type { NamedArrays } from "./replica.ts";

/**
 * Every key of the file belongs to a module of the base, none is missing, and every number is the one that was to be saved.
 * @returns what was read
 * @throws UserError naming the first key that differs
 */
export function checkedAdapter(dir: string, checkpoint: Checkpoint, expected: NamedArrays): Adapter {
  const adapter = readAdapter(dir, checkpoint);
  for (const [name, values] of expected) {
    const read = adapter.values.get(name);
    const at = read ? values.findIndex((value, i) => !Object.is(value, read[i])) : 0;
    if (at < 0) continue;
    throw new UserError(
      `${join(dir, ADAPTER_WEIGHTS)}: read back, "${name}" is ${read?.[at]} at place ${at}; ${values[at]} was saved; is the disk sound?`,
    );
  }
  return adapter;
}

/** Whether an adapter leaves its base as it is: every B is zero, as before the first step, and nothing else was trained. */
export const isIdle = ({ settings, values }: Adapter): boolean =>
  settings.modulesToSave === undefined &&
  [...values].every(([name, array]) => !name.endsWith(".lora_B.weight") || array.every((value) => value === 0));
