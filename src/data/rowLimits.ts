/** How large and how deep a row may be: what is beyond is no sample but a mistake or an attack. */
import { UserError } from "../utils/errors.ts";

const MAX_DEPTH = 64;
const MAX_VALUES = 1_000_000;
const MAX_CHARACTERS = 2 ** 28;

/** How many values may still come, over several rows: objects that a pickle shares count wherever they stand. */
export interface ValueBudget {
  values: number;
}

/**
 * @param budget shared by the rows of a file; default: this row's alone
 * @throws UserError when the row is too deep (or contains itself), or holds too many values or characters
 */
export function checkRowSize(row: unknown, where: string, budget: ValueBudget = { values: MAX_VALUES }): void {
  const left = { values: MAX_VALUES, characters: MAX_CHARACTERS };
  const visit = (value: unknown, depth: number): void => {
    if (depth > MAX_DEPTH)
      throw new UserError(`${where}: nested more than ${MAX_DEPTH} deep, or contains itself; flatten it`);
    if (--left.values < 0 || --budget.values < 0)
      throw new UserError(
        `${where}: more than ${MAX_VALUES} values in a row, or far more in the rows than in the file; split it`,
      );
    if (typeof value === "bigint")
      throw new UserError(`${where}: the number ${value} is too large to keep its digits; write it as text`);
    if (typeof value === "string") left.characters -= value.length;
    if (left.characters < 0)
      throw new UserError(
        `${where}: more than ${MAX_CHARACTERS} characters in a row; write pictures as files and name them`,
      );
    if (typeof value !== "object" || value === null || value instanceof Uint8Array) return;
    for (const inner of Object.values(value)) visit(inner, depth + 1);
  };
  visit(row, 0);
}
