// Which turns are trained: the runs of TRL's own masks, chosen by --train-on and by marks in the data.
import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeConversation, IGNORE } from "../src/collator.ts";
import type { Message } from "../src/data/example.ts";
import { readFixture, realProcessor } from "./text/models.ts";

interface Case {
  messages: Message[];
  tools?: object[] | null;
  input_ids: number[];
  labels: number[];
}

const { cases } = readFixture<{ cases: Case[] }>("chat", "random_masks.json");

/** The learnt runs [start, end) of TRL's mask: one for each assistant turn, since each has a header that is not learnt. */
function runsOf(labels: readonly number[]): [number, number][] {
  const runs: [number, number][] = [];
  labels.forEach((label, t) => {
    if (label === IGNORE) return;
    const last = runs.at(-1);
    if (last?.[1] === t) last[1] = t + 1;
    else runs.push([t, t + 1]);
  });
  return runs;
}

function labelsOf({ messages, tools }: Case, trainOn: "all" | "last"): number[] {
  const conversation = { messages, ...(tools ? { tools } : {}) };
  const options = { processor: realProcessor(), visuals: [], labelMode: "official" as const, trainOn };
  return [...encodeConversation(conversation, options).labels];
}

const turnsOf = ({ messages }: Case): number[] => messages.flatMap(({ role }, i) => (role === "assistant" ? [i] : []));
const only = (labels: readonly number[], runs: readonly [number, number][]): number[] =>
  labels.map((label, t) => (runs.some(([start, end]) => t >= start && t < end) ? label : IGNORE));

test("the conversations hold system turns, tool calls and tool replies, and several assistant turns", () => {
  const has = (holds: (message: Message) => boolean): number =>
    cases.filter(({ messages }) => messages.some(holds)).length;
  assert.ok(has(({ role }) => role === "system") > 5);
  assert.ok(has(({ role }) => role === "tool") > 10);
  assert.ok(has(({ tool_calls: calls }) => calls !== undefined) > 10);
  assert.ok(cases.filter((one) => turnsOf(one).length > 1).length > 20);
  for (const one of cases) assert.equal(runsOf(one.labels).length, turnsOf(one).length);
});

test("--train-on last trains the last run alone, tool calls in it included", () => {
  for (const [k, one] of cases.entries()) {
    assert.deepEqual(labelsOf(one, "all"), one.labels, `case ${k}`);
    assert.deepEqual(labelsOf(one, "last"), only(one.labels, runsOf(one.labels).slice(-1)), `case ${k}`);
  }
});

test('"train": false takes a turn out and leaves the others as they were', () => {
  let tried = 0;
  for (const [k, one] of cases.entries()) {
    const turns = turnsOf(one);
    if (turns.length < 2) continue;
    const out = k % turns.length;
    const messages = one.messages.map((message, i) => (i === turns[out] ? { ...message, train: false } : message));
    const kept = runsOf(one.labels).filter((_, run) => run !== out);
    assert.deepEqual(labelsOf({ ...one, messages }, "all"), only(one.labels, kept), `case ${k}, turn ${out}`);
    tried++;
  }
  assert.ok(tried > 20);
});

test("where the last turn is marked untrained, --train-on last finds nothing to learn", () => {
  const [one] = cases as [Case];
  const messages = one.messages.map((message) => ({ ...message, train: false }));
  assert.throws(() => labelsOf({ ...one, messages }, "last"), /^UserError: nothing to learn/);
});
