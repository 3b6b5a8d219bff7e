import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { distanceOf, type Metrics, metricsOf, type Point, parseGrounding } from "../../src/eval/grounding.ts";

interface Golden {
  readonly parsed: readonly { answer: string; content: string; point: Point }[];
  readonly scores: readonly {
    predicted: Point[];
    truth: Point[];
    accuracy: number;
    mean_l2: number;
    median_l2: number;
  }[];
}
const golden: Golden = JSON.parse(readFileSync("test/fixtures/eval/grounding.json", "utf8"));

const SUM_ORDER = 1e-12; // relative: numpy sums pairwise, we in order
const answerOf = (inside: string): string =>
  `\`\`\`referring\nblue plus button\n\`\`\`\n\`\`\`grounding\n${inside}\n\`\`\``;

test("compatible parsing equals the original parser on every golden answer", () => {
  for (const { answer, content, point } of golden.parsed) {
    assert.deepEqual(parseGrounding(answer, "compatible"), { content, point }, JSON.stringify(answer));
  }
  const found = golden.parsed.filter(({ point: [x, y] }) => x + y > 0).length;
  assert.ok(found > 40 && found < golden.parsed.length - 40, "the fixture holds answers with and without a point");
});

test("compatible parsing, case by case", () => {
  const cases: [string, Point][] = [
    ["[311, 541]", [311, 541]],
    ["(12, 34, 56, 78)", [12, 34]],
    ["(10,20) to (30,40)", [10, 20]],
    ['{"point_2d": [412, 680]}', [412, 680]],
    ["[0.31, 0.54]", [31, 0]],
    ["[1200, -5]", [0, 0]],
  ];
  for (const [inside, point] of cases) {
    assert.deepEqual(parseGrounding(answerOf(inside), "compatible"), { content: "blue plus button", point });
  }
  assert.deepEqual(parseGrounding("", "compatible"), { content: "None", point: [0, 0] });
  assert.deepEqual(parseGrounding("```grounding\n[311, 541]", "compatible").point, [0, 0], "unclosed fence");
});

test("strict parsing takes decimals and box centres, and says null otherwise", () => {
  const cases: [string, Point | null][] = [
    ["[311, 541]", [311, 541]],
    ["(12, 34, 56, 78)", [34, 56]],
    ["(10,20) to (30,40)", [20, 30]],
    ["Top-left: (10, 20), Bottom-right: (30, 40)", [20, 30]],
    ['{"point_2d": [412, 680]}', [412, 680]],
    ["[0.25, 0.5]", [250, 500]],
    ["[0.25, 0.5, 0.75, 1]", [500, 750]],
    ["[0, 1]", [0, 1]],
    ["[311.5, 541.25]", [311.5, 541.25]],
    ["[1200, 5]", null],
    ["[12, -5]", null],
    ["[12]", null],
    ["[1, 2, 3]", null],
    ["somewhere", null],
    ["", null],
  ];
  for (const [inside, point] of cases)
    assert.deepEqual(parseGrounding(answerOf(inside), "strict").point, point, inside);
  assert.equal(parseGrounding("```grounding\n[311, 541]", "strict").point, null, "unclosed fence");
});

const near = (ours: number | null, theirs: number): void => {
  assert.ok(ours !== null && Math.abs(ours - theirs) <= SUM_ORDER * Math.abs(theirs), `${ours} against ${theirs}`);
};

test("metrics equal the original's", () => {
  for (const score of golden.scores) {
    const scored = score.predicted.map((predicted, i) => ({ predicted, truth: score.truth[i] ?? ([0, 0] as const) }));
    const metrics = metricsOf(scored);
    assert.equal(metrics.accuracy, score.accuracy);
    near(metrics.mean_l2, score.mean_l2);
    near(metrics.median_l2, score.median_l2);
    assert.equal(metrics.n, scored.length);
  }
});

test("the published example, to the digit", () => {
  const predicted: Point[] = [[311, 541], [0, 0], [500, 500], [100, 240]]; // biome-ignore format: one line
  const truth: Point[] = [[300, 500], [300, 400], [400, 400], [100, 100]]; // biome-ignore format: one line
  const metrics = metricsOf(predicted.map((point, i) => ({ predicted: point, truth: truth[i] ?? [0, 0] })));
  assert.equal(metrics.accuracy, 0.5);
  assert.equal(metrics.mean_l2?.toFixed(6), "205.967832");
  assert.equal(metrics.median_l2?.toFixed(6), "140.710678");
});

test("every whole-numbered distance of exactly 140 is a hit", () => {
  const legs = [[0, 140], [84, 112], [112, 84], [140, 0]] as const; // biome-ignore format: one line
  for (const leg of legs) assert.equal(distanceOf(leg, [0, 0]), 140);
  assert.equal(metricsOf([{ predicted: [84, 112], truth: [0, 0] }]).accuracy, 1);
  assert.equal(metricsOf([{ predicted: [85, 112], truth: [0, 0] }]).accuracy, 0);
});

test("answers without a point are misses, counted apart and left out of the distances", () => {
  const truth: Point = [0, 0];
  const mixed = metricsOf([
    { predicted: null, truth },
    { predicted: [0, 100], truth },
  ]);
  assert.deepEqual(mixed, { accuracy: 0.5, mean_l2: 100, median_l2: 100, n: 2, failures: 1 } satisfies Metrics);
  assert.deepEqual(metricsOf([{ predicted: null, truth }]), {
    accuracy: 0,
    mean_l2: null,
    median_l2: null,
    n: 1,
    failures: 1,
  });
  assert.throws(() => metricsOf([]), /internal: metrics of no answers/);
});
