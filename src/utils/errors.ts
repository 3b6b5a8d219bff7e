/** The two kinds of failure a user can meet: a mistake that they can mend, and a bug of ours. */

/**
 * Bad input or a wrong flag. Entries print its message alone and end with exit code 2.
 * The message says where, what was expected, what came and what to do.
 */
export class UserError extends Error {
  override readonly name = "UserError";
}

/** A broken promise inside the program: never the user's fault. */
export class InternalError extends Error {
  override readonly name = "InternalError";
  constructor(message: string, options?: ErrorOptions) {
    super(`internal: ${message}`, options);
  }
}

/** Raised between two micro-batches after Ctrl-C; entries save and end with exit code 130. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
}

/** Returns `value`, or throws an InternalError that says what was missing: for look-ups that cannot fail unless we erred. */
export function required<T>(value: T | undefined | null, what: string): T {
  if (value === undefined || value === null) throw new InternalError(`${what} is missing`);
  return value;
}

/** The message of anything that was thrown. */
export const messageOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown));
