/** Makes the files of a model in few bits: a process of its own for tests of several at once. Prints their paths and its notes. */
import { openCheckpoint } from "../../../src/model/checkpoint.ts";
import { quantisedFiles } from "../../../src/model/quantised/store.ts";

const [dir = "", root = ""] = process.argv.slice(2);
const notes: string[] = [];
const { files } = await quantisedFiles(openCheckpoint(dir), {
  ...{ kind: "int8", parts: ["text", "text.transposed", "head"], roots: [root] },
  onNote: (note) => notes.push(note),
});
console.log(JSON.stringify({ files, notes }));
