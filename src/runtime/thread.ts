/**
 * An object in a worker thread, called as if it were here. Errors keep their kind, and when the thread dies every call
 * that waits for it fails with the reason: nothing hangs.
 */
import { type MessagePort, type Transferable, Worker } from "node:worker_threads";
import { InternalError, Interrupted, messageOf, UserError } from "../utils/errors.ts";

interface Call {
  readonly id: number;
  readonly method: string;
  readonly args: readonly unknown[];
}

/** What is left of an error on its way between threads, which would keep neither its class nor its name. */
interface PlainError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
}

type Reply = { readonly id: number; readonly result: unknown } | { readonly id: number; readonly error: PlainError };

/** Methods of T as seen from another thread. */
export type Remote<T> = {
  readonly [K in keyof T as T[K] extends (...args: never[]) => unknown ? K : never]: T[K] extends (
    ...args: infer A
  ) => infer R
    ? (...args: A) => Promise<Awaited<R>>
    : never;
};

/**
 * Answers calls on `port` with the methods of the object that `create` makes, one after another in the order of arrival.
 * The object is made at the first call; if that fails, every call answers with the reason.
 */
export function serve(port: MessagePort, create: () => object): void {
  let target: object | null = null;
  let last = Promise.resolve();
  port.on("message", (call: Call) => {
    last = last.then(async () => answer(port, await replyTo(() => (target ??= create()), call)));
  });
}

/** A result that cannot cross threads is our mistake, and its caller is told. */
function answer(port: MessagePort, reply: Reply): void {
  try {
    port.postMessage(reply);
  } catch (thrown) {
    port.postMessage({ id: reply.id, error: plain(thrown) } satisfies Reply);
  }
}

async function replyTo(target: () => object, { id, method, args }: Call): Promise<Reply> {
  try {
    const object = target();
    const run: unknown = Reflect.get(object, method);
    if (typeof run !== "function")
      throw new InternalError(`a thread was asked for "${method}", which it does not have`);
    return { id, result: await run.apply(object, args) };
  } catch (thrown) {
    return { id, error: plain(thrown) };
  }
}

function plain(thrown: unknown): PlainError {
  const { name, message, stack } = thrown instanceof Error ? thrown : new Error(String(thrown));
  return { name, message, stack };
}

/** The same error, with the class that callers tell apart. */
function revived({ name, message, stack }: PlainError): Error {
  if (name === "UserError") return new UserError(message);
  if (name === "Interrupted") return new Interrupted(message);
  const error = new InternalError(message.replace(/^internal: /, ""));
  if (stack) error.stack = stack;
  return error;
}

/** A running thread and the object in it. */
export interface Thread<T> {
  readonly remote: Remote<T>;
  /** Resolves with the reason should the thread die of itself, at once and not only at the next call. */
  readonly died: Promise<Error>;
  /** Ends the thread when the calls under way are done; new ones fail. */
  stop(): Promise<void>;
  /** Waits for the thread no longer: the process may end while it still computes, and calls under way fail. */
  abandon(): void;
}

/**
 * Starts `file`, which must call `serve`, in a thread of its own.
 * @param data what the thread finds as workerData.data
 */
export function startThread<T extends object>(
  file: URL,
  data: unknown,
  transfer: readonly Transferable[] = [],
): Thread<T> {
  const boot = new URL("./boot.mjs", import.meta.url);
  const worker = new Worker(boot, { workerData: { file: file.href, data }, transferList: [...transfer], execArgv: [] });
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  let dead: Error | null = null;
  let isAbandoned = false;
  let count = 0;
  let tell: (reason: Error) => void = () => undefined;
  const died = new Promise<Error>((resolve) => {
    tell = resolve;
  });
  const die = (error: Error): void => {
    if (!dead) tell(error);
    dead ??= error;
    for (const { reject } of waiting.values()) reject(dead);
    waiting.clear();
  };
  worker.on("message", (reply: Reply) => {
    const call = waiting.get(reply.id);
    waiting.delete(reply.id);
    if ("error" in reply) call?.reject(revived(reply.error));
    else call?.resolve(reply.result);
    if (waiting.size === 0) worker.unref();
  });
  worker.on("error", (error) =>
    die(new InternalError(`a worker thread failed: ${messageOf(error)}`, { cause: error })),
  );
  worker.on("exit", (code) => die(new InternalError(`a worker thread ended with code ${code} while it was needed`)));
  worker.unref();
  const underWay = new Set<Promise<unknown>>();
  const call = (method: string, args: readonly unknown[]): Promise<unknown> => {
    if (dead) return Promise.reject(dead);
    const answered = new Promise((resolve, reject) => {
      worker.postMessage({ id: ++count, method, args } satisfies Call); // throws where an argument cannot cross
      waiting.set(count, { resolve, reject });
      worker.ref(); // the process lives on while an answer is due
    });
    underWay.add(answered);
    const forget = (): void => void underWay.delete(answered);
    answered.then(forget, forget);
    return answered;
  };
  // Every property is a call; `then` must not be, or awaiting the proxy would call the thread.
  const remote = new Proxy(
    {},
    {
      get: (_, method) =>
        method === "then" || typeof method === "symbol" ? undefined : (...args: unknown[]) => call(method, args),
    },
  ) as Remote<T>;
  const close = (): void => {
    dead ??= new InternalError("a worker thread was asked for something after it was stopped");
  };
  return {
    remote,
    died,
    abandon() {
      close();
      isAbandoned = true;
      die(new InternalError("a worker thread was given up"));
      worker.unref();
    },
    async stop() {
      close();
      await Promise.allSettled(underWay); // a thread that is cut off inside native code takes the whole process with it
      if (!isAbandoned) await worker.terminate();
    },
  };
}
