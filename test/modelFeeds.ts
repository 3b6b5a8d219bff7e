// Inputs of a training graph, for tests that run the graph itself and not an engine.
import type { Graph } from "../src/graph/graph.ts";
import type { Architecture } from "../src/model/architecture.ts";
import { featureFeeds, patchFeeds, tokenFeeds } from "../src/model/feeds.ts";
import { type Feeds, floats, ints } from "../src/runtime/tensor.ts";
import { lossFeeds } from "../src/train/loss.ts";
import { randomFrom } from "../src/utils/random.ts";
import { elementCount } from "../src/utils/safetensors.ts";
import { batchesOf, loraSpec, openEngine, type Tiny } from "./tiny.ts";

/** The first two samples side by side, without parameters. */
export async function batchFeeds(tiny: Tiny, architecture: Architecture, trainsVision: boolean): Promise<Feeds> {
  const { batch } = batchesOf(tiny, openEngine(tiny, loraSpec(), { isTraining: false }), trainsVision);
  const { labels, pictures, ...tokens } = await batch([0, 1]);
  const visual = trainsVision
    ? patchFeeds(architecture, pictures as Parameters<typeof patchFeeds>[1])
    : featureFeeds(architecture, pictures as Parameters<typeof featureFeeds>[1]);
  const seed = { dropout_seed: ints(Int32Array.of(7), []) };
  return { ...tokenFeeds(tokens), ...lossFeeds(labels, tokens.length), ...visual, ...seed };
}

/** The feeds, and small numbers for every input of known shape that they leave out. */
export function withParameters(graph: Graph, feeds: Feeds): Feeds {
  const random = randomFrom(graph.name);
  const missing = graph.inputs.filter(({ name }) => !(name in feeds));
  const drawn = missing.map(({ name, shape }) => {
    const dims = shape as readonly number[];
    return [
      name,
      floats(
        Float32Array.from({ length: elementCount(dims) }, () => 0.1 * random.normal()),
        dims,
      ),
    ] as const;
  });
  return { ...Object.fromEntries(drawn), ...feeds };
}
