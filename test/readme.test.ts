// The README's tree is the tree.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const readme = readFileSync("README.md", "utf8");
const tree = /```\n(src\/[\s\S]*?)```/.exec(readme)?.[1] ?? "";

test("every file and folder of src stands in the README's tree, and nothing else does", () => {
  const inSource = /^src\/\n([\s\S]*?)^\w/m.exec(tree)?.[1] ?? "";
  const told = [...inSource.matchAll(/^ {2}(\S.*)$/gm)].flatMap(([, line = ""]) =>
    line.split(/\s{2,}/).filter((word) => /^\w+(\.ts|\/)$/.test(word)),
  );
  const present = readdirSync("src", { withFileTypes: true }).map((entry) =>
    entry.isDirectory() ? `${entry.name}/` : entry.name,
  );
  assert.deepEqual(told.sort(), present.sort());
});

test("files that the README links to are there", () => {
  for (const [, target = ""] of readme.matchAll(/\]\(([^)#:]+)\)/g)) assert.ok(existsSync(target), target);
});
