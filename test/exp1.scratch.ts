import { loadTiny, loraSpec, batchesOf, adapterOf } from "/work/main/test/tiny.ts";
import { Engine } from "/work/main/src/engine/engine.ts";
import { FULL } from "/work/main/src/model/trainables.ts";
import * as T from "/work/main/src/model/trainables.ts";
import { openEngine } from "/work/main/test/tiny.ts";
const tiny = await loadTiny();
for (const [label, spec] of [["lora", loraSpec()], ["full", (T as any).FULL ?? (T as any).FULL_ALL]] as any) {
  if (!spec) { console.log(Object.keys(T)); continue; }
  const grads: any[] = [];
  for (const threads of [1, 2, 2]) {
    const engine = new Engine({ modelDir: "/work/main/test/fixtures/tiny-qwen3vl/model", device: { kind: "cpu", threads }, trainable: spec, training: { optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0 }, maxGradNorm: 1 } as any });
    if (label === "lora") engine.setValues(adapterOf(tiny));
    const { source } = batchesOf(tiny, engine as any, label === "full");
    const all: any[] = [];
    for (const idx of [[0], [1, 2], [3], [4, 5, 6]]) {
      const { ids, ...b } = await source(idx);
      const out = await engine.accumulate(b, { weight: 1, dropoutSeed: 1 });
      all.push([out, new Map([...engine.gradients(1)].map(([k, v]) => [k, v.slice()]))]);
      engine.clearGradients();
    }
    grads.push(all);
  }
  for (const j of [1, 2]) for (let b = 0; b < 4; b++) {
    let diff = 0, n = 0, names = new Set();
    const [o0, g0] = grads[j === 1 ? 0 : 1][b], [o1, g1] = grads[j][b];
    for (const [k, v] of g0) { const w = g1.get(k); for (let i = 0; i < v.length; i++) { n++; if (v[i] !== w[i]) { diff++; names.add(k); } } }
    console.log(label, j === 1 ? "1 vs 2" : "2 vs 2", b, o0.lossSum === o1.lossSum, diff, n, [...names].slice(0, 5));
  }
}
process.exit(0);
