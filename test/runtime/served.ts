// What the thread of thread.test.ts holds.
import { parentPort, workerData } from "node:worker_threads";
import { serve } from "../../src/runtime/thread.ts";
import { InternalError, Interrupted, required, UserError } from "../../src/utils/errors.ts";

export class Served {
  readonly #log: string[] = [];

  constructor(options: { readonly refuse?: string }) {
    if (options.refuse) throw new UserError(options.refuse);
  }

  echo<T>(value: T): T {
    return value;
  }

  async slow(name: string, ms: number): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, ms));
    this.#log.push(name);
  }

  log(): string[] {
    return this.#log;
  }

  fail(kind: "user" | "interrupted" | "internal" | "type" | "text"): never {
    if (kind === "user") throw new UserError("row 3: no picture");
    if (kind === "interrupted") throw new Interrupted("stopped");
    if (kind === "internal") throw new InternalError("broken");
    if (kind === "type") throw new TypeError("not a function");
    throw "text";
  }

  unsendable(): () => void {
    return () => undefined;
  }

  die(): never {
    process.exit(7);
  }

  async burst(): Promise<void> {
    setTimeout(() => {
      throw new Error("outside of any call");
    });
    await new Promise(() => undefined);
  }
}

const { data } = workerData as { data: { readonly refuse?: string; readonly throwAtStart?: string } };
if (data.throwAtStart) throw new Error(data.throwAtStart);
serve(required(parentPort, "parent"), () => new Served(data));
