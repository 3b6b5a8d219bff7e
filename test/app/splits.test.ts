import assert from "node:assert/strict";
import { join } from "node:path";
import { Writable } from "node:stream";
import { test } from "node:test";
import {
  readSplits,
  readTest,
  refuseOverlap,
  type SplitOptions,
  type Splits,
  testUsers,
} from "../../src/app/splits.ts";
import { createLog } from "../../src/utils/log.ts";
import { folderOf, PICTURE, rowsOf } from "../data/files.ts";

const said: string[] = [];
const stream = new Writable({ write: (text, _, done) => done(void said.push(String(text))) });
const log = createLog({ quiet: false, stream });
const OPTIONS: SplitOptions = {
  ...{ data: null, limit: null, format: null, imageRoot: null, allowRemoteImages: false, log },
  ...{ trainUsers: null, valUsers: null, users: null, valData: null, testData: null, valFraction: null },
  ...{ seed: 1, eval: true },
};

const csvOf = (user: number, rows: number): string =>
  [
    "image,command,referring,x,y,episode",
    ...Array.from({ length: rows }, (_, i) => `a.png,press ${user}-${i},it,1,2,${i >> 1}`),
  ].join("\n");
const row = (user: number | null, text: string) => ({
  ...(user === null ? {} : { user }),
  messages: [
    { role: "user", content: text },
    { role: "assistant", content: "```referring\nit\n```\n```grounding\n[1, 2]\n```" },
  ],
});

const FOLDER = folderOf({
  "a.png": PICTURE,
  ...Object.fromEntries([2, 11, 12, 74, 90].map((user) => [`user_${user}.csv`, csvOf(user, 4)])),
});
const FILE = join(
  folderOf({ "d.jsonl": rowsOf(...[1, 1, 11, 12, 74].map((user, i) => row(user, `q${i}`))) }),
  "d.jsonl",
);
const OTHER = join(folderOf({ "o.jsonl": rowsOf(row(7, "other"), row(null, "one more")) }), "o.jsonl");

const usersOf = (examples: Splits["train"]): string => [...new Set(examples.map(({ user }) => user))].join(" ");
async function splitUsers(options: Partial<SplitOptions>, want?: "all"): Promise<Record<keyof Splits, string>> {
  const { train, validation, test: held, unused } = await readSplits({ ...OPTIONS, ...options }, want);
  return { train: usersOf(train), validation: usersOf(validation), test: usersOf(held), unused: usersOf(unused) };
}

test("a folder is split by its users, the original's unless others are named", async () => {
  assert.deepEqual(await splitUsers({ data: FOLDER }), { train: "11 12", validation: "74", test: "2", unused: "" });
  assert.deepEqual(await splitUsers({ data: FOLDER }, "all"), {
    train: "11 12",
    validation: "74",
    test: "2",
    unused: "90",
  });
  assert.deepEqual(
    await splitUsers({ data: FOLDER, trainUsers: [90, 12], valUsers: [11], users: [74] }),
    { train: "90 12", validation: "11", test: "74", unused: "" }, // in the order named
  );
  assert.equal((await splitUsers({ data: FOLDER, eval: false })).test, "");
});

test("missing users: training's are told, validation's only where they were named", async () => {
  said.length = 0;
  await readSplits({ ...OPTIONS, data: FOLDER, trainUsers: [11, 13], users: [2] });
  assert.match(said.join(""), /^warning: \S+: no file for user 13 .*: skipped\n$/);
  said.length = 0;
  await readSplits({ ...OPTIONS, data: FOLDER, trainUsers: [11], valUsers: [74, 80], users: [2] });
  assert.match(said.join(""), /no file for user 80/);
});

test("of one file every row trains that no flag holds out", async () => {
  assert.deepEqual(await splitUsers({ data: FILE }), { train: "1 11 12 74", validation: "", test: "", unused: "" });
  assert.deepEqual(await splitUsers({ data: FILE, valUsers: [74], users: [1] }), {
    train: "11 12",
    validation: "74",
    test: "1",
    unused: "",
  });
  assert.deepEqual(await splitUsers({ data: FILE, trainUsers: [11], users: [1] }), {
    train: "11",
    validation: "",
    test: "1",
    unused: "12 74",
  });
  assert.equal((await splitUsers({ data: FILE, users: [1], eval: false })).train, "11 12 74");
});

test("validation and test samples from files of their own", async () => {
  const {
    train,
    validation,
    test: held,
  } = await readSplits({ ...OPTIONS, data: FILE, valData: OTHER, testData: FOLDER });
  assert.deepEqual([train.length, validation.length, held.length], [5, 2, 20]);
  assert.deepEqual(await splitUsers({ data: FOLDER, testData: OTHER, users: [7] }), {
    train: "11 12",
    validation: "74",
    test: "7",
    unused: "",
  });
  assert.equal((await splitUsers({ data: FOLDER, testData: OTHER, eval: false })).test, "");
});

test("a share of the training samples: episodes whole, instead of the validation users", async () => {
  const { train, validation } = await readSplits({ ...OPTIONS, data: FOLDER, valFraction: 0.25 });
  assert.deepEqual([train.length, validation.length], [6, 2]);
  const [one, two] = validation;
  assert.deepEqual([one?.user, one?.episode], [two?.user, two?.episode]);
});

test("users are asked for, but a row names none", async () => {
  await assert.rejects(
    readSplits({ ...OPTIONS, data: OTHER, valUsers: [7] }),
    /^UserError: --data \S+o\.jsonl: users are selected, but o\.jsonl:2 has no "user"; .*--val-data or --val-fraction$/,
  );
});

test("a sample in two splits is refused by both its rows", async () => {
  const copy = join(folderOf({ "c.jsonl": rowsOf(row(5, "new"), row(6, "q3"), row(6, "q4")) }), "c.jsonl");
  const splits = await readSplits({ ...OPTIONS, data: FILE, valData: copy });
  await assert.rejects(
    refuseOverlap(splits),
    /^UserError: d\.jsonl:4 \(training\) and c\.jsonl:2 \(validation\) are the same sample, pictures and words, and 1 more: .*--allow-overlap$/,
  );
  await refuseOverlap(await readSplits({ ...OPTIONS, data: FILE, valData: OTHER }));
  await assert.rejects(
    readSplits({ ...OPTIONS, data: FOLDER, trainUsers: [2, 11] }).then(refuseOverlap),
    /user_2\.csv:2 \(training\) and user_2\.csv:2 \(test\) .*, and 3 more/,
  );
  const twice = join(folderOf({ "t.jsonl": rowsOf(row(1, "a"), row(2, "a"), row(3, "b")) }), "t.jsonl");
  await refuseOverlap(await readSplits({ ...OPTIONS, data: twice, valUsers: [3] })); // equal rows of one split are allowed
});

test("test samples by user; what cannot be scored is refused", async () => {
  const { test: held } = await readSplits({ ...OPTIONS, data: FILE, testData: OTHER });
  said.length = 0;
  assert.deepEqual(
    [...testUsers(held, OPTIONS)].map(([user, own]) => [user, own.length]),
    [
      [7, 1],
      [0, 1],
    ],
  );
  assert.match(said.join(""), /^rows without a "user" are answered as user 0\n$/);
  assert.throws(
    () => testUsers([], { data: FILE, log }),
    /^UserError: --data \S+: no sample is held out to be answered; .*--test-data/,
  );
  const named = held.map((one) => ({ ...one, user: "alice" }));
  assert.throws(() => testUsers(named, OPTIONS), /^UserError: o\.jsonl:1: user "alice"; expected a number/);
  const pointless = join(
    folderOf({
      "p.jsonl": rowsOf({
        messages: [
          { role: "user", content: "a" },
          { role: "assistant", content: "b" },
        ],
      }),
    }),
    "p.jsonl",
  );
  await assert.rejects(
    readTest({ ...OPTIONS, data: pointless }, null),
    /p\.jsonl:1: conversations have no click point/,
  );
});

test("without training, one file is answered whole, a folder by its test users", async () => {
  assert.deepEqual([...(await readTest({ ...OPTIONS, data: FILE }, null)).keys()], [1, 11, 12, 74]);
  assert.deepEqual([...(await readTest({ ...OPTIONS, data: FILE }, [12, 11])).keys()], [11, 12]);
  assert.deepEqual([...(await readTest({ ...OPTIONS, data: FOLDER }, null)).keys()], [2]);
  assert.deepEqual([...(await readTest({ ...OPTIONS, data: FOLDER }, [90, 12])).keys()], [90, 12]);
});
