// Dependencies point one way, and what may stand in one file only stands there.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { test } from "node:test";

/** What each folder (or file of src/ itself) may import besides itself. */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  utils: [],
  graph: ["utils"],
  vision: ["utils"],
  embedded: ["utils"],
  config: ["utils"],
  "config.ts": ["utils", "config"],
  text: ["utils", "vision"],
  runtime: ["utils", "graph"],
  data: ["utils", "text", "vision"],
  "dataset.ts": ["utils", "data"],
  "processor.ts": ["utils", "text", "vision"],
  "collator.ts": ["utils", "text", "vision", "data", "processor.ts"],
  model: ["utils", "graph", "runtime"],
  // peers, between whose files there is still no cycle: an engine holds a replica and a generator, a trainer calls an engine
  ...Object.fromEntries(
    ["train", "eval", "engine"].map((peer) => [
      peer,
      [
        "utils",
        "graph",
        "text",
        "vision",
        "runtime",
        "data",
        "processor.ts",
        "collator.ts",
        "model",
        "train",
        "eval",
        "engine",
      ],
    ]),
  ),
};
/** Entries and what they share may import anything but each other. */
const TOP = [
  "app",
  "vanillaEval.ts",
  "finetuneGlobal.ts",
  "finetunePerson.ts",
  "evalCheckpoint.ts",
  "merge.ts",
  "preview.ts",
  "report.ts",
];

const files = readdirSync("src", { recursive: true, encoding: "utf8" })
  .map((file) => file.replaceAll("\\", "/"))
  .filter((file) => file.endsWith(".ts"));
const sourceOf = (file: string): string => readFileSync(join("src", file), "utf8");
const specifiersOf = (file: string): string[] =>
  [
    ...sourceOf(file).matchAll(/^(?:import|export)\b[^"]*?from "([^"]+)"|^import "([^"]+)"|\bimport\("([^"]+)"\)/gm),
  ].map(([, from, bare, dynamic]) => from ?? bare ?? dynamic ?? "");
const importsOf = (file: string): string[] =>
  specifiersOf(file)
    .filter((specifier) => specifier.startsWith("."))
    .map((specifier) => normalize(join(dirname(file), specifier)).replaceAll("\\", "/"));
const layerOf = (file: string): string => file.split("/")[0] ?? file;

test("every import of src is a file of src", () => {
  const known = new Set(files);
  const count = files.reduce((sum, file) => sum + importsOf(file).length, 0);
  assert.ok(count > 100, `${count} imports read`);
  for (const file of files)
    for (const target of importsOf(file)) assert.ok(known.has(target), `${file} imports ${target}`);
});

test("dependencies point one way", () => {
  const against = files.flatMap((file) => {
    const layer = layerOf(file);
    if (TOP.includes(layer)) return [];
    const allowed = LAYERS[layer];
    assert.ok(allowed, `${file}: say in LAYERS what ${layer} may import`);
    return importsOf(file)
      .filter((target) => layerOf(target) !== layer && !allowed.includes(layerOf(target)))
      .map((target) => `${file} imports ${target}`);
  });
  assert.deepEqual(against, []);
});

test("only entries know Config, and nothing imports an entry", () => {
  const entries = TOP.filter((name) => name.endsWith(".ts"));
  const against = files.flatMap((file) =>
    importsOf(file)
      .filter(
        (target) =>
          entries.includes(target) ||
          (target === "config.ts" && !TOP.includes(layerOf(file))) ||
          (layerOf(target) === "config" && !["config", "config.ts"].includes(layerOf(file))),
      )
      .map((target) => `${file} imports ${target}`),
  );
  assert.deepEqual(against, []);
});

test("no cycles, of types or of values", () => {
  const state = new Map<string, "open" | "done">();
  const visit = (file: string, path: readonly string[]): void => {
    if (state.get(file) === "done") return;
    assert.notEqual(state.get(file), "open", [...path.slice(path.indexOf(file)), file].join(" -> "));
    state.set(file, "open");
    for (const target of importsOf(file)) visit(target, [...path, file]);
    state.set(file, "done");
  };
  for (const file of files) visit(file, []);
});

/** Files whose code, comments and messages left out, matches. */
const matching = (pattern: RegExp): string[] =>
  files
    .filter((file) => {
      const code = sourceOf(file)
        .replace(/\/\*[\s\S]*?\*\//g, "")
        .replace(/(^|\s)\/\/.*$/gm, "");
      return pattern.test(code);
    })
    .sort();

test("one place for each of the things that must have one place", () => {
  const places: Readonly<Record<string, readonly [RegExp, readonly string[]]>> = {
    "the label that is not learnt": [/-100\b/, ["collator.ts"]],
    "64-bit whole numbers": [
      /\bBig(Int|Uint)/,
      [
        ...["data/parquet/file.ts", "data/pickle/scalars.ts"], // numbers of other people's files
        ...["graph/onnx.ts", "runtime/tensor.ts", "utils/protobuf.ts", "utils/safetensors.ts"],
      ],
    ],
    "the runtime": [/^import (?!type).*from "onnxruntime-/m, ["runtime/session.ts"]],
    "types of the runtime": [/^import type .*from "onnxruntime-/m, ["runtime/tensor.ts"]],
    protobuf: [/from "[./a-z]*\/protobuf\.ts"/, ["graph/onnx.ts", "utils/tensorBoard/event.ts"]],
    "Parquet's decoder": [
      /from "hyparquet/,
      ["data/parquet/codecs.ts", "data/parquet/file.ts", "data/parquet/guard.ts"],
    ],
    "threads of our own": [
      /from "node:worker_threads"/,
      ["engine/worker.ts", "model/quantised/worker.ts", "runtime/thread.ts"],
    ],
    "labels are shifted": [/at - 1/, ["train/loss.ts"]],
  };
  for (const [what, [pattern, expected]] of Object.entries(places)) assert.deepEqual(matching(pattern), expected, what);
});
