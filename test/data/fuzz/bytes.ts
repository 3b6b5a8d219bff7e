/** Ways of damaging bytes and values, drawn from a seed. */
import type { Random } from "../../../src/utils/random.ts";

const randomBytes = (random: Random, length: number): Buffer =>
  Buffer.from(Array.from({ length }, () => random.below(256)));

/** Numbers that readers trip over when they stand where a length or a count is expected. */
const LENGTHS: readonly Buffer[] = [
  [0xff, 0xff, 0xff, 0xff, 0x07],
  [0xff, 0xff, 0xff, 0xff, 0x0f],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
  [0xff, 0xff, 0xff, 0x7f],
  [0x00, 0x00, 0x00, 0x80],
  [0xff, 0xff, 0xff, 0xff],
  [0, 0, 0, 0],
].map((bytes) => Buffer.from(bytes));

type Damage = (bytes: Buffer, random: Random) => Buffer;

const DAMAGES: readonly Damage[] = [
  (bytes, random) => bytes.subarray(0, random.below(bytes.length)), // cut off
  (bytes, random) => bytes.subarray(random.below(bytes.length)), // the beginning lost
  (bytes, random) => changed(bytes, random, (byte) => byte ^ (1 << random.below(8))),
  (bytes, random) => changed(bytes, random, () => random.below(256)),
  (bytes, random) => changed(bytes, random, () => random.pick([0, 0xff, 0x7f, 0x80])),
  (bytes, random) => spliced(bytes, random, 0, randomBytes(random, 1 + random.below(16))),
  (bytes, random) => spliced(bytes, random, 1 + random.below(16), Buffer.alloc(0)),
  (bytes, random) => spliced(bytes, random, random.below(64), Buffer.alloc(random.below(64), random.pick([0, 0xff]))),
  (bytes, random) => written(bytes, random, random.pick(LENGTHS)),
  (bytes, random) => spliced(bytes, random, 1, random.pick(LENGTHS)),
  (bytes, random) => {
    const from = random.below(bytes.length);
    return spliced(bytes, random, 0, bytes.subarray(from, from + random.below(256))); // a part twice
  },
  (bytes, random) => Buffer.concat([bytes, bytes]).subarray(0, bytes.length + random.below(bytes.length + 1)),
];

function changed(bytes: Buffer, random: Random, to: (byte: number) => number): Buffer {
  const copy = Buffer.from(bytes);
  for (let left = 1 + random.below(4); left > 0; left--) {
    const at = random.below(copy.length);
    copy[at] = to(copy[at] ?? 0);
  }
  return copy;
}

function spliced(bytes: Buffer, random: Random, removed: number, added: Uint8Array): Buffer {
  const at = random.below(bytes.length + 1);
  return Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at + removed)]);
}

function written(bytes: Buffer, random: Random, over: Uint8Array): Buffer {
  const copy = Buffer.from(bytes);
  copy.set(over.subarray(0, copy.length), random.below(Math.max(1, copy.length - over.length)));
  return copy;
}

/** The bytes with one to three damages. */
export function damaged(bytes: Uint8Array, random: Random): Buffer {
  let copy = Buffer.from(bytes);
  for (let left = 1 + random.below(3); left > 0 && copy.length > 0; left--)
    copy = Buffer.from(random.pick(DAMAGES)(copy, random));
  return copy;
}

/** Bytes that mean nothing, sometimes behind the first bytes of a format. */
export function garbage(random: Random): Buffer {
  const start = random.pick([
    "",
    "",
    "PAR1",
    "\x80\x04\x95",
    "[",
    '{"messages":',
    "\x89PNG\r\n",
    "(lp0\n",
    "image,command\n",
    "\xef\xbb\xbf",
  ]);
  const end = random.pick(["", "", "PAR1", ".", "]", "\x10\0\0\0PAR1"]);
  return Buffer.concat([
    Buffer.from(start, "latin1"),
    randomBytes(random, random.below(400)),
    Buffer.from(end, "latin1"),
  ]);
}

const nested = (depth: number): unknown => (depth === 0 ? 1 : [nested(depth - 1)]);

const WRONG: readonly ((random: Random) => unknown)[] = [
  ...[
    null,
    true,
    -1,
    0,
    1.5,
    1e308,
    "",
    " ",
    "\u0000",
    "\ud800",
    [],
    {},
    [[]],
    [null],
    { a: 1 },
    "<image>",
    "<image><image>",
    "<video>",
  ].map((value) => () => value),
  () => nested(63),
  () => nested(500),
  () => "x".repeat(100_000),
  () => "\n\u001b[31m\r".repeat(50),
  () => Array.from({ length: 2000 }, () => ({})),
  () => ({ bytes: "AAAA", path: 3 }),
  () => ({ url: { url: "a.png" } }),
  () => "data:image/png;base64,AAAA",
  () => "data:text/html,<script>",
  () => `data:image/png;base64,${"A".repeat(99_999)}`,
  () => "https://127.0.0.1:1/a.png",
  (random) => random.pick(ESCAPES),
];

/** Paths that lead out, or to what is no picture. */
export const ESCAPES: readonly string[] = [
  ...[
    "../secret.png",
    "../../../../../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "images/../../secret.png",
    "out/secret.png",
  ],
  ...[
    "images/link.png",
    "/dev/zero",
    "/dev/stdin",
    "/proc/self/environ",
    "/proc/self/fd/0",
    "pipe.png",
    ".",
    "..",
    "/",
    "images",
    "~",
    "a\u0000b",
  ],
  ...[
    "images/a.png\u0000.txt",
    "%2e%2e/secret.png",
    "..\\secret.png",
    "file:",
    "file://",
    "C:\\secret.png",
    "\\\\server\\share\\a.png",
    "./././../secret.png",
  ],
  ...[
    "images/a.png/../../../secret.png",
    "dangling.png",
    "circle.png",
    `${"a/".repeat(3000)}a.png`,
    "x".repeat(300),
    "images/a.png/",
    "users.txt",
    "-",
    "http:",
    "https://",
  ],
];

/** A value with one of its parts wrong: replaced, taken out, put in twice. */
export function wrongPart(value: unknown, random: Random): unknown {
  if (typeof value !== "object" || value === null || random.below(5) === 0) return random.pick(WRONG)(random);
  if (Array.isArray(value)) {
    if (value.length === 0) return [random.pick(WRONG)(random)];
    const at = random.below(value.length);
    const kind = random.below(8);
    if (kind === 0) return value.filter((_, i) => i !== at);
    if (kind === 1) return [...value, value[at]];
    return value.map((inner: unknown, i) => (i === at ? wrongPart(inner, random) : inner));
  }
  const entries = Object.entries(value);
  if (entries.length === 0) return random.pick(WRONG)(random);
  const at = random.below(entries.length);
  const kind = random.below(8);
  if (kind === 0) return Object.fromEntries(entries.filter((_, i) => i !== at));
  if (kind === 1) return Object.fromEntries([...entries, [random.pick(NAMES), random.pick(WRONG)(random)]]);
  return Object.fromEntries(entries.map(([name, inner], i) => [name, i === at ? wrongPart(inner, random) : inner]));
}

const NAMES = [
  "image",
  "images",
  "video",
  "user",
  "tools",
  "episode",
  "train",
  "tool_calls",
  "reasoning_content",
  "conversations",
  "messages",
  "__proto__",
  "fps",
];
