// Which pictures a data file may name, and how they are fetched.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { basename, join } from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";
import { imagesOf } from "../../src/data/example.ts";
import { remoteImages } from "../../src/data/imageReference.ts";
import { type DatasetOptions, readDataset } from "../../src/dataset.ts";
import { UserError } from "../../src/utils/errors.ts";
import type { ImageSource } from "../../src/vision/image.ts";
import { folderOf, freshFolder, PICTURE, refuses, rowsOf } from "./files.ts";

const rowOf = (...images: unknown[]) => ({
  messages: [
    { role: "user", content: images.map((image) => ({ type: "image", image })) },
    { role: "assistant", content: "a" },
  ],
});

/** A folder with data/train.jsonl, data/images/a.png and, beside data/, secret.png. */
function layout(...images: unknown[]): { folder: string; file: string } {
  const folder = folderOf({
    "data/train.jsonl": rowsOf(rowOf("images/a.png"), rowOf(...images)),
    "data/images/a.png": PICTURE,
    "secret.png": PICTURE,
  });
  return { folder, file: join(folder, "data", "train.jsonl") };
}

async function picturesOf(file: string, options: DatasetOptions = {}): Promise<ImageSource[]> {
  return (await readDataset(file, options)).slice(1).flatMap(({ messages }) => imagesOf(messages));
}

test("paths inside the root, however they are written", async () => {
  const { folder, file } = layout();
  const path = join(folder, "data", "images", "a.png");
  symlinkSync(join(folder, "data"), join(folder, "alias"));
  symlinkSync("a.png", join(folder, "data", "images", "link.png"));
  symlinkSync("images", join(folder, "data", "linked"));
  const names = ["images/a.png", "./images//a.png", "images/../images/a.png", path, pathToFileURL(path).href];
  const links = ["images/link.png", "linked/a.png", join(folder, "alias", "images", "a.png")];
  writeFileSync(file, rowsOf(rowOf("images/a.png"), rowOf(...names, ...links)));
  const found = await picturesOf(file);
  assert.equal(found.length, names.length + links.length);
  for (const source of found.slice(0, names.length)) assert.deepEqual(source, { kind: "file", path });
  assert.equal((await picturesOf(join(folder, "alias", "train.jsonl"))).length, found.length);
});

for (const [name, imageOf] of [
  ["..", () => "../secret.png"],
  [".. after a way down", () => "images/../../secret.png"],
  ["what is not there", () => "../none.png"],
  ["an absolute path", (folder: string) => join(folder, "secret.png")],
  ["a file: URL", (folder: string) => pathToFileURL(join(folder, "secret.png")).href],
  ["the system's own files", () => "/etc/passwd"],
  ["a link that leads out", () => "images/link.png"],
  ["a folder that leads out", () => "out/secret.png"],
  ["a folder whose name begins as the root's", (folder: string) => join(folder, "data-other", "a.png")],
] as const) {
  test(`paths that leave the root are refused: ${name}`, async () => {
    const { folder, file } = layout();
    folderOf({ "data-other/a.png": PICTURE }, folder);
    symlinkSync("../../secret.png", join(folder, "data", "images", "link.png"));
    symlinkSync("..", join(folder, "data", "out"));
    writeFileSync(file, rowsOf(rowOf("images/a.png"), rowOf(imageOf(folder))));
    const message = await refuses(
      file,
      /line 2: picture .* outside of .*; pictures must lie in the folder of the data file/,
    );
    assert.match(message, /pass --image-root \/.* or a folder above it$/);
  });
}

test("--image-root: paths start there, and may be absolute inside it", async () => {
  const { folder, file } = layout("secret.png", "data/images/a.png");
  writeFileSync(file, rowsOf(rowOf("data/images/a.png"), rowOf("secret.png", join(folder, "secret.png"))));
  const found = await picturesOf(file, { imageRoot: folder });
  assert.deepEqual(
    found.map((source) => source.kind === "file" && source.path),
    [join(folder, "secret.png"), join(folder, "secret.png")],
  );
  await refuses(file, /line 1: picture data\/images\/a\.png cannot be read/);
  for (const [imageRoot, message] of [
    [join(folder, "none"), /^UserError: --image-root .*none: cannot be read/],
    [file, /^UserError: --image-root .*train\.jsonl: not a folder/],
  ] as const)
    await assert.rejects(readDataset(file, { imageRoot }), message);
});

test("the hub's cache shows files as links into its blobs: they are inside, other links are not", async () => {
  const folder = freshFolder();
  const repository = join(folder, "datasets--me--screens");
  const snapshot = join(repository, "snapshots", "abc");
  folderOf(
    { "blobs/123": PICTURE, "blobs/456": rowsOf(rowOf("a.png")), "refs/main": "abc", "../secret.png": PICTURE },
    repository,
  );
  mkdirSync(snapshot, { recursive: true });
  symlinkSync("../../blobs/123", join(snapshot, "a.png"));
  symlinkSync("../../blobs/456", join(snapshot, "train.jsonl"));
  assert.equal((await readDataset(join(snapshot, "train.jsonl"))).length, 1);
  symlinkSync("../../../secret.png", join(snapshot, "b.png"));
  writeFileSync(join(repository, "blobs", "456"), rowsOf(rowOf("b.png")));
  await refuses(join(snapshot, "train.jsonl"), /line 1: picture b\.png leads to .*secret\.png, outside of/);
});

test("what is no picture file is refused, and nothing waits for it", async () => {
  const { folder, file } = layout();
  execFileSync("mkfifo", [join(folder, "data", "pipe.png")]);
  symlinkSync("nowhere.png", join(folder, "data", "dangling.png"));
  symlinkSync("circle.png", join(folder, "data", "circle.png"));
  for (const [image, message] of [
    ["pipe.png", /line 2: picture pipe\.png is not a file/],
    ["dangling.png", /line 2: picture dangling\.png cannot be read \(ENOENT/],
    ["circle.png", /line 2: picture circle\.png cannot be read \(ELOOP/],
    ["images", /line 2: picture images is not a file/],
    ["images/a.png/b", /line 2: picture .* cannot be read \(ENOTDIR/],
    ["a\0.png", /line 2: picture .* cannot be read/],
    [`${"a".repeat(300)}.png`, /line 2: picture .* cannot be read \(ENAMETOOLONG/],
    ["file://other/a.png", /line 2: .* names no file of this machine/],
    ["ftp://a.b/c.png", /line 2: picture ftp.* cannot be read/],
    ["data:image/png;base64,", /the bytes of a data: picture are not base64/],
    [`data:${"x".repeat(100_000)},AA`, /line 2: a picture begins data:x+; expected/],
    [{ bytes: null, path: null }, /line 2, message 1, part 1: a picture is an object; expected a path/],
  ] as const) {
    writeFileSync(file, rowsOf(rowOf("images/a.png"), rowOf(image)));
    await refuses(file, message);
  }
  execFileSync("mkfifo", [join(folder, "data", "rows.jsonl")]);
  await refuses(join(folder, "data", "rows.jsonl"), /not a file/);
});

/** How often each path was asked for. */
const asked = new Map<string, number>();

function answerTo(request: IncomingMessage, response: ServerResponse): void {
  const path = request.url ?? "";
  asked.set(path, (asked.get(path) ?? 0) + 1);
  if (path.startsWith("/a.png")) response.end(PICTURE);
  else if (path === "/moved.png") response.writeHead(302, { location: "/a.png?moved" }).end();
  else if (path === "/circle.png") response.writeHead(302, { location: "/circle.png" }).end();
  else if (path === "/file.png") response.writeHead(302, { location: "file:///etc/passwd" }).end();
  else if (path === "/slow.png") response.write("a");
  else if (path === "/cut.png")
    response.writeHead(200, { "content-length": "1000" }).write("a", () => response.destroy());
  else if (path === "/endless.png") sendForever(response);
  else response.writeHead(404).end();
}

function sendForever(response: ServerResponse): void {
  const chunk = Buffer.alloc(65_536);
  const send = (): void => {
    if (!response.destroyed) response.write(chunk, send);
  };
  send();
}

const server = createServer(answerTo);
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
after(() => {
  server.closeAllConnections();
  server.close();
});
const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

test("pictures from the network: only where allowed, one request for each address", async () => {
  const url = `${base}/a.png?once`;
  const { file } = layout(url, url, `${base}/moved.png`);
  await refuses(file, /line 2: the picture http:.* is on the network; pass --allow-remote-images/);
  assert.equal(asked.get("/a.png?once"), undefined);
  for (let i = 0; i < 2; i++) {
    const found = await picturesOf(file, { allowRemoteImages: true });
    assert.equal(found.length, 3);
    for (const source of found) assert.ok(source.kind === "bytes" && PICTURE.equals(source.bytes));
    assert.equal(found[0]?.kind === "bytes" && found[0].name, url);
  }
  assert.equal(asked.get("/a.png?once"), 1);
});

test("pictures that cannot be fetched are refused with file, row and address", async () => {
  const fault = async (name: string, message: RegExp) => {
    const { file } = layout(name.includes("://") ? name : `${base}/${name}`);
    await refuses(file, message, { allowRemoteImages: true });
  };
  await fault("none.png", /line 2: the picture http.*none\.png cannot be fetched: the server answers 404 Not Found/);
  await fault("circle.png", /cannot be fetched: redirect count exceeded/);
  await fault("file.png", /cannot be fetched: /);
  await fault("cut.png", /cannot be fetched: /);
  await fault("http://127.0.0.1:1/a.png", /cannot be fetched: .*(ECONNREFUSED|bad port).*; check the address/);
  await fault("http://", /cannot be fetched: /);
});

test("pictures from the network have bounds of time and size", async () => {
  const bounds = async (path: string, limits: Parameters<typeof remoteImages>[0], message: RegExp) => {
    const started = Date.now();
    await assert.rejects(remoteImages(limits).fetch(`${base}/${path}`, "x.jsonl, line 1"), (error: Error) => {
      assert.ok(error instanceof UserError, error.stack);
      assert.match(error.message, message);
      return error.message.startsWith("x.jsonl, line 1: the picture ");
    });
    assert.ok(Date.now() - started < 5000);
  };
  await bounds("slow.png", { timeoutMs: 200 }, /it took longer than 0\.2 s/);
  await bounds("endless.png", { maxBytes: 1_000_000 }, /it is larger than 1000000 bytes/);
  await bounds("a.png?small", { maxTotalBytes: 100 }, /all pictures together exceed 100 bytes/);
});

test("pictures of a CSV and of a video come from the same places", async () => {
  const folder = folderOf({
    "user_1.csv": `image,command,referring,x,y,episode\n${base}/a.png?csv,c,r,1,2,e\n`,
    "user_2.csv": "image,command,referring,x,y,episode\n../a.png,c,r,1,2,e\n",
    "video.jsonl": rowsOf({
      messages: [
        { role: "user", content: [{ type: "video", video: [`${base}/a.png?video`, "../a.png"], fps: 1 }] },
        { role: "assistant", content: "a" },
      ],
    }),
  });
  const [example] = await readDataset(join(folder, "user_1.csv"), { allowRemoteImages: true });
  assert.equal(imagesOf(example?.messages ?? [])[0]?.kind, "bytes");
  await refuses(join(folder, "user_2.csv"), /line 2: picture \.\.\/a\.png leads to .* outside of/);
  await refuses(join(folder, "video.jsonl"), /line 1, frame 2: picture \.\.\/a\.png leads to/, {
    allowRemoteImages: true,
  });
  assert.equal(basename(folder).length > 0, true);
});
