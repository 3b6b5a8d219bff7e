import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, statSync } from "node:fs";
import { mkdir, symlink, truncate, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { UserError } from "../../src/utils/errors.ts";
import { type FetchProgress, resolveModelDir } from "../../src/utils/hub.ts";

const COMMIT = "a".repeat(40);
const FILES: Record<string, Buffer> = {
  "config.json": Buffer.from('{"model_type": "qwen3_vl"}'),
  "tokenizer.json": Buffer.from('{"version": "1.0"}'),
  "README.md": Buffer.from("not needed"),
  "pytorch_model.bin": Buffer.from("not needed either"),
  "model.safetensors": Buffer.alloc(300_000, "weights "),
};
const hashOf = (algorithm: string, bytes: Buffer): string => createHash(algorithm).update(bytes).digest("hex");

/** What the hub's API answers, as far as a model's files go: information, tree, resolve with ranges. */
function answerAsHub(request: IncomingMessage, response: ServerResponse): void {
  requests.push(`${request.headers.range ?? ""} ${request.url}`.trim());
  tokens.add(request.headers.authorization ?? "");
  const path = new URL(request.url ?? "", "http://hub").pathname;
  const name = path.match(new RegExp(`^/org/tiny/resolve/${COMMIT}/(.+)$`))?.[1] ?? "";
  const bytes = FILES[name];
  if (bytes) sendRange(request, response, damage(name, bytes));
  else sendJson(response, ...apiAnswer(path));
}

function apiAnswer(path: string): [status: number, body: unknown] {
  if (path.startsWith("/api/models/org/closed/")) return [401, { error: "Invalid username or password." }];
  if (path === "/api/models/org/tiny/revision/main") return [200, { id: "org/tiny", _id: "1", sha: COMMIT }];
  if (path === `/api/models/org/tiny/tree/${COMMIT}`) return [200, Object.entries(FILES).map(treeEntry)];
  return [404, { error: "Repository not found" }];
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

function treeEntry([path, bytes]: [string, Buffer]): object {
  const lfs = path.endsWith(".safetensors")
    ? { oid: hashOf("sha256", bytes), size: bytes.length, pointerSize: 130 }
    : null;
  return { type: "file", path, size: bytes.length, oid: hashOf("sha1", bytes), ...(lfs && { lfs }) };
}

function sendRange(request: IncomingMessage, response: ServerResponse, bytes: Buffer): void {
  const [, from = "0", to = ""] = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? "") ?? [];
  const [start, end] = [Number(from), to === "" ? bytes.length : Math.min(Number(to) + 1, bytes.length)];
  const contentRange = `bytes ${start}-${end - 1}/${bytes.length}`;
  response.writeHead(206, { etag: `"${hashOf("sha1", bytes)}"`, "content-range": contentRange });
  response.end(bytes.subarray(start, end));
}

let requests: string[] = [];
let tokens = new Set<string>();
let damage = (_name: string, bytes: Buffer): Buffer => bytes;
let endpoint = "";
let nowhere = ""; // a port that nothing listens on any more
let cacheDir = "";
const server = createServer(answerAsHub);
const scratch = mkdtempSync(join(tmpdir(), "hub-test-"));

async function listen(on: Server): Promise<string> {
  await new Promise<void>((done) => on.listen(0, "127.0.0.1", done));
  return `http://127.0.0.1:${(on.address() as AddressInfo).port}`;
}

before(async () => {
  endpoint = await listen(server);
  const closed = createServer();
  nowhere = await listen(closed);
  closed.close();
});
after(() => {
  server.close();
  rmSync(scratch, { recursive: true, force: true });
});
beforeEach(() => {
  cacheDir = mkdtempSync(join(scratch, "cache-"));
  requests = [];
  tokens = new Set();
  damage = (_, bytes) => bytes;
});

const repoDir = (): string => join(cacheDir, "models--org--tiny");
const get = (more: object = {}): Promise<string> => resolveModelDir("org/tiny", { endpoint, cacheDir, ...more });

test("a hub id becomes a folder of real files, and Python's cache layout beside it", async () => {
  const seen: FetchProgress[] = [];
  const dir = await get({ onProgress: (progress: FetchProgress) => seen.push(progress), token: "hf_secret" });
  assert.deepEqual(readdirSync(dir).sort(), ["config.json", "model.safetensors", "tokenizer.json"]);
  for (const name of readdirSync(dir)) {
    assert.ok(lstatSync(join(dir, name)).isFile(), `${name} is a real file`);
    assert.deepEqual(readFileSync(join(dir, name)), FILES[name]);
  }
  assert.equal(dir, realpathSync(dir));
  assert.equal(readFileSync(join(repoDir(), "refs/main"), "utf8"), COMMIT);
  const snapshot = join(repoDir(), "snapshots", COMMIT, "model.safetensors");
  assert.ok(lstatSync(snapshot).isSymbolicLink());
  assert.equal(statSync(snapshot).ino, statSync(join(dir, "model.safetensors")).ino, "a hard link: no second copy");
  const total = 300_000 + 26 + 18;
  assert.deepEqual(seen.at(-1), { file: "model.safetensors", doneBytes: total, totalBytes: total });
  assert.deepEqual([...tokens], ["Bearer hf_secret"]);
});

test("the second time only the commit is asked for", async () => {
  const dir = await get();
  requests = [];
  assert.equal(await get(), dir);
  assert.equal(requests.length, 1);
  assert.match(requests[0] ?? "", /^\/api\/models\/org\/tiny\/revision\/main/);
});

test("without weights they are not fetched; a run that needs them fetches them later", async () => {
  const light = await get({ withoutWeights: true });
  assert.deepEqual(readdirSync(light).sort(), ["config.json", "tokenizer.json"]);
  assert.deepEqual(
    requests.filter((request) => request.includes("safetensors")),
    [],
  );
  assert.equal(await get({ withoutWeights: true, isOffline: true }), light);
  await assert.rejects(get({ isOffline: true }), UserError, "what is there is no whole model");
  assert.deepEqual(readdirSync(await get()).sort(), ["config.json", "model.safetensors", "tokenizer.json"]);
});

test("without the hub the cached copy is used, and said so", async () => {
  const dir = await get();
  const said: string[] = [];
  assert.equal(await get({ endpoint: nowhere, onOffline: (text: string) => said.push(text) }), dir);
  assert.deepEqual(said, [`${nowhere} cannot be reached; using org/tiny as last fetched (commit ${COMMIT})`]);
  requests = [];
  assert.equal(await get({ isOffline: true }), dir);
  assert.deepEqual(requests, []);
});

test("a snapshot made by another program serves offline, a part of one does not", async () => {
  rmSync(await get(), { recursive: true });
  const dir = await get({ endpoint: nowhere });
  assert.deepEqual(readFileSync(join(dir, "model.safetensors")), FILES["model.safetensors"]);
  rmSync(dir, { recursive: true });
  rmSync(join(repoDir(), "snapshots", COMMIT, "model.safetensors"));
  await assert.rejects(get({ endpoint: nowhere }), /org\/tiny.*nothing cached.*cannot be reached/);
});

test("an interrupted download goes on where it stopped", async () => {
  const weights = FILES["model.safetensors"] as Buffer;
  await mkdir(join(repoDir(), "blobs"), { recursive: true });
  await writeFile(join(repoDir(), "blobs", `${hashOf("sha256", weights)}.incomplete`), weights.subarray(0, 250_000));
  const dir = await get();
  assert.deepEqual(readFileSync(join(dir, "model.safetensors")), weights);
  assert.ok(
    requests.some((line) => /^bytes=250000-\d* .*model\.safetensors$/.test(line)),
    requests.join("\n"),
  );
});

test("damaged weights are refused and leave nothing that counts as whole", async () => {
  damage = (name, bytes) => (name.endsWith(".safetensors") ? Buffer.alloc(bytes.length, "other") : bytes);
  await assert.rejects(get(), /org\/tiny": model\.safetensors came damaged .*; run again/);
  assert.ok(!existsSync(join(repoDir(), "real")));
  assert.deepEqual(
    readdirSync(join(repoDir(), "blobs")).filter((name) => name.includes("incomplete")),
    [],
  );
  damage = (_, bytes) => bytes;
  assert.deepEqual(readFileSync(join(await get(), "model.safetensors")), FILES["model.safetensors"]);
});

test("refusals are one clear message each", async () => {
  const refused = async (model: string, pattern: RegExp, more: object = {}): Promise<void> => {
    await assert.rejects(resolveModelDir(model, { endpoint, cacheDir, ...more }), (thrown: unknown) => {
      assert.ok(thrown instanceof UserError, String(thrown));
      assert.match(thrown.message, pattern);
      assert.ok(!thrown.message.includes("\n"));
      return true;
    });
  };
  await refused("org/none", /"org\/none": not found.*at revision "main"; expected a folder or a hub id \(org\/name\)/);
  await refused("org/tiny", /at revision "v9"/, { revision: "v9" });
  await refused("org/closed", /not open to you .*\(401\).*HF_TOKEN/);
  await refused("./nowhere/at/all", /"\.\/nowhere\/at\/all": not found; expected a folder or a hub id/);
  await refused(
    "org/tiny",
    /no such folder, nothing cached, and .*cannot be reached \(.*ECONNREFUSED.*\); name a folder/,
    { endpoint: nowhere },
  );
  await refused("package.json", /is a file; expected a folder/);
});

test("HF_ENDPOINT and HF_HUB_CACHE are honoured", async () => {
  const kept = { ...process.env };
  Object.assign(process.env, { HF_ENDPOINT: `${endpoint}/`, HF_HUB_CACHE: cacheDir });
  try {
    assert.equal(await resolveModelDir("org/tiny"), realpathSync(join(repoDir(), "real", COMMIT)));
  } finally {
    process.env = kept;
  }
});

test("an existing folder is used where it lies; a snapshot of the cache becomes a real folder", async () => {
  const real = await get();
  assert.equal(await resolveModelDir(real), real);
  const link = join(scratch, "link-to-folder");
  await symlink(real, link);
  assert.equal(await resolveModelDir(link), real);
  const snapshot = join(repoDir(), "snapshots", COMMIT);
  rmSync(real, { recursive: true });
  assert.equal(await resolveModelDir(snapshot), real);
});

test("a folder whose weights are links that lead elsewhere is refused, with the remedy", async () => {
  const real = await get();
  const folder = mkdtempSync(join(scratch, "linked-"));
  await symlink(join(real, "model.safetensors"), join(folder, "model.safetensors"));
  await assert.rejects(resolveModelDir(folder), /symlinks that lead out of the folder.*cp -rL/);
  await symlink(join(folder, "gone"), join(folder, "other.safetensors"));
  await assert.rejects(resolveModelDir(folder), /other\.safetensors: a symlink that leads nowhere/);
  await truncate(join(real, "config.json"), 0); // folders that were used are not checked again
  assert.equal(await resolveModelDir(real), real);
});
