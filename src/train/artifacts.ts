/** The training artifacts as files: what ONNX Runtime's users know them by, for inspection and for other programs. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { encodeOnnx } from "../graph/onnx.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { decoderGraph, evalGraph, trainingGraph, visionGraph } from "../model/graphs.ts";
import { type TrainableSpec, trainablesOf } from "../model/trainables.ts";
import { UserError } from "../utils/errors.ts";
import { writeWhole } from "../utils/files.ts";
import { obstacle } from "./obstacles.ts";
import type { OptimizerSettings } from "./optimizer.ts";
import { optimizerGraphs } from "./optimizers.ts";

/**
 * Writes training_model, eval_model, optimizer_model, vision_model and decoder_model (.onnx). Their weights stay in the
 * checkpoint's safetensors files, named relative to its folder: open them with that folder as
 * `session.model_external_initializers_file_folder_path`.
 * @throws UserError naming the folder that cannot be written
 */
export async function writeArtifacts(
  dir: string,
  checkpoint: Checkpoint,
  spec: TrainableSpec,
  optimizer: OptimizerSettings,
): Promise<void> {
  const trainables = trainablesOf(checkpoint, spec);
  const graphs = [trainingGraph, evalGraph, visionGraph, decoderGraph].map(
    (build) => build(checkpoint, trainables).graph,
  );
  try {
    await mkdir(dir, { recursive: true });
    for (const graph of [...graphs, ...optimizerGraphs(optimizer)])
      await writeWhole(join(dir, `${graph.name}.onnx`), encodeOnnx(graph));
  } catch (cause) {
    throw new UserError(`${dir}: the graphs could not be saved: ${obstacle(cause)}`, { cause });
  }
}
