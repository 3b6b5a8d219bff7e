/** Opens a session on a graph whose weights lie in a checkpoint's files. */
import type { Graph } from "../graph/graph.ts";
import { encodeOnnx } from "../graph/onnx.ts";
import { wantsPacking } from "../graph/quantMatMul.ts";
import { type Device, targetOf } from "../runtime/device.ts";
import { openSession, type Session } from "../runtime/session.ts";
import { type Checkpoint, weightsDir } from "./checkpoint.ts";

/** @param kept outputs that stay in the device's memory */
export const openModelSession = (
  graph: Graph,
  checkpoint: Checkpoint,
  device: Device,
  kept: readonly string[] = [],
): Promise<Session> =>
  openSession(encodeOnnx(graph, targetOf(device)), {
    device,
    kept,
    weightsDir: weightsDir(checkpoint),
    keepsGraph: graph.isOrdered && device.kind === "cpu", // what the CPU would make of it, it is already
    packWeights: graph.nodes.some(
      (node) => node.op === "QuantMatMul" && (answers(graph) || wantsPacking(node.attrs.form)),
    ),
  });

/** Tokens behind a cache are few rows for many weights: in the order of the kernels these are read several times as fast. */
const answers = (graph: Graph): boolean => graph.nodes.some(({ op }) => op === "CachedAttention");
