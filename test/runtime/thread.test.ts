// Calls to an object in a thread: in order, with their errors, and never left waiting.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { startThread, type Thread } from "../../src/runtime/thread.ts";
import { InternalError, Interrupted, UserError } from "../../src/utils/errors.ts";
import type { Served } from "./served.ts";

const start = (data: object = {}, file = "./served.ts"): Thread<Served> =>
  startThread<Served>(new URL(file, import.meta.url), data);

async function withThread(use: (thread: Thread<Served>) => Promise<void>, data: object = {}): Promise<void> {
  const thread = start(data);
  try {
    await use(thread);
  } finally {
    await thread.stop();
  }
}

test("values cross: maps, views of one buffer, undefined", () =>
  withThread(async ({ remote }) => {
    const numbers = Float32Array.of(1, 2, 3, 4);
    const value = new Map<string, unknown>([
      ["low", numbers.subarray(0, 2)],
      ["high", numbers.subarray(2)],
      ["none", undefined],
    ]);
    assert.deepEqual(await remote.echo(value), value);
    assert.equal(await remote.echo(undefined), undefined);
  }));

test("calls are answered one after another, in the order in which they were made", () =>
  withThread(async ({ remote }) => {
    await Promise.all([remote.slow("a", 60), remote.slow("b", 5), remote.slow("c", 0)]);
    assert.deepEqual(await remote.log(), ["a", "b", "c"]);
  }));

test("errors keep the class that callers tell apart, and the thread goes on", () =>
  withThread(async ({ remote }) => {
    const thrown = async (kind: Parameters<Served["fail"]>[0]) => remote.fail(kind).catch((error: unknown) => error);
    const [user, interrupted, internal, type, text] = await Promise.all(
      (["user", "interrupted", "internal", "type", "text"] as const).map(thrown),
    );
    assert.ok(user instanceof UserError && user.message === "row 3: no picture");
    assert.ok(interrupted instanceof Interrupted && interrupted.message === "stopped");
    assert.ok(internal instanceof InternalError && internal.message === "internal: broken");
    assert.match(internal.stack ?? "", /served\.ts/, "it says where in the thread");
    assert.ok(type instanceof InternalError && type.message === "internal: not a function");
    assert.ok(text instanceof InternalError && text.message === "internal: text");
    assert.equal(await remote.echo("still here"), "still here");
  }));

test("what cannot cross is refused, here as there, and nothing waits for it", () =>
  withThread(async ({ remote }) => {
    await assert.rejects(remote.unsendable(), /could not be cloned/);
    await assert.rejects(
      remote.echo(() => undefined),
      /could not be cloned/,
    );
    assert.equal(await remote.echo("still here"), "still here");
  }));

test("a method that is not there", () =>
  withThread(async ({ remote }) => {
    const unknown = remote as unknown as { missing(): Promise<void> };
    await assert.rejects(unknown.missing(), /internal: a thread was asked for "missing", which it does not have/);
  }));

test("an object that cannot be made says why, to every call", () =>
  withThread(
    async ({ remote }) => {
      for (let i = 0; i < 2; i++)
        await assert.rejects(
          remote.echo(1),
          (error: Error) => error instanceof UserError && /no weights/.test(error.message),
        );
    },
    { refuse: "model: no weights" },
  ));

test("a thread that ends rejects the calls under way and all later ones", () =>
  withThread(async ({ remote }) => {
    const calls = [remote.die(), remote.echo(1), remote.log()].map((call) =>
      assert.rejects(call, /internal: a worker thread ended with code 7 while it was needed/),
    );
    await Promise.all(calls);
    await assert.rejects(remote.echo(2), /ended with code 7/);
  }));

test("so does one that throws outside of a call", () =>
  withThread(async ({ remote }) => {
    await assert.rejects(remote.burst(), /internal: a worker thread failed: outside of any call/);
    await assert.rejects(remote.echo(2), /outside of any call/);
  }));

test("so does one that fails at its start", async () => {
  await withThread(
    async ({ remote }) => {
      await assert.rejects(remote.echo(1), /internal: a worker thread failed: broken import/);
    },
    { throwAtStart: "broken import" },
  );
  const missing = start({}, "./nowhere.ts");
  await assert.rejects(missing.remote.echo(1), /internal: a worker thread failed: .*nowhere\.ts/);
});

test("stopping waits for the calls under way, and refuses new ones", async () => {
  const thread = start();
  const calls = [thread.remote.slow("a", 100), thread.remote.slow("b", 50)];
  const stopped = thread.stop();
  await assert.rejects(thread.remote.echo(1), /internal: a worker thread was asked for something after it was stopped/);
  let isStopped = false;
  stopped.then(
    () => (isStopped = true),
    () => undefined,
  );
  await Promise.all(calls);
  assert.equal(isStopped, false);
  await stopped;
});

test("stopping in the middle of a computation does not abort the process", () => {
  const { status, signal, stderr } = spawnSync(process.execPath, ["--import", "tsx", "test/runtime/stopped.ts"], {
    encoding: "utf8",
    timeout: 60_000,
  });
  assert.deepEqual([status, signal, stderr], [0, null, ""]);
});

test("an idle thread does not keep the process", () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--import", "tsx", "test/runtime/idle.ts"], {
    encoding: "utf8",
    timeout: 20_000,
  });
  assert.deepEqual([status, stdout], [0, "answered\nkept alive by the call\n"], stderr);
});
