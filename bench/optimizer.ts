/**
 * What one update costs for each trained number, by optimizer: matrices [2048, 2048], as a model of 2 billion parameters has
 * them, with their gradients in double. Prints one line of JSON an optimizer; each figure is the least of all rounds.
 *
 * npx tsx bench/optimizer.ts [MILLIONS_OF_PARAMETERS [ROUNDS]]
 */
import { CPU } from "../src/runtime/device.ts";
import { layoutOf } from "../src/train/layout.ts";
import { OPTIMS } from "../src/train/moments.ts";
import { ADAMW_DEFAULTS, norm } from "../src/train/optimizer.ts";
import { optimizerFor } from "../src/train/optimizers.ts";

const SIDE = 2048;

async function main([millions = "67", rounds = "5"]: readonly string[]): Promise<void> {
  const count = Math.max(1, Math.round((Number(millions) * 1e6) / SIDE ** 2));
  const shapes = new Map(Array.from({ length: count }, (_, i) => [`layers.${i}.weight`, [SIDE, SIDE]]));
  const layout = layoutOf(shapes);
  const flats = { values: new Float32Array(layout.size).fill(0.02), gradients: new Float64Array(layout.size) };
  for (let i = 0; i < layout.size; i++) flats.gradients[i] = Math.sin(i) / 100;
  for (const optim of OPTIMS) {
    const optimizer = optimizerFor(layout, { ...ADAMW_DEFAULTS, optim, weightDecay: 0.01 }, CPU);
    const remembered = [...optimizer.moments().values()].flatMap((arrays) => [...arrays.values()]);
    let [update, length] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
    for (let step = 1; step <= Number(rounds); step++) {
      length = Math.min(length, await timed(() => norm(flats.gradients)));
      const how = { learningRate: 1e-5, step, gradientScale: 1, weightDecay: 0.01 };
      update = Math.min(update, await timed(() => optimizer.update(flats, () => how)));
    }
    const each = (ms: number): number => Number(((ms * 1e6) / layout.size).toFixed(2));
    const bytes = remembered.reduce((sum, { byteLength }) => sum + byteLength, 0) / layout.size;
    console.log(
      JSON.stringify({
        optim,
        parameters: layout.size,
        update_ns_each: each(update),
        norm_ns_each: each(length),
        remembered_bytes_each: Number(bytes.toFixed(4)),
        peak_gb: Number((process.resourceUsage().maxRSS / 1e6).toFixed(2)),
      }),
    );
    await optimizer.release();
  }
}

async function timed(work: () => unknown): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

await main(process.argv.slice(2));
