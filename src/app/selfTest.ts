/** Before a run says "saved": its adapter, loaded from the files again, answers as the trained one does. */
import type { RemoteEngine } from "../engine/start.ts";
import { initialValues } from "../model/initialValues.ts";
import { trainablesOf } from "../model/trainables.ts";
import { readAdapter } from "../train/adapterFiles.ts";
import type { NamedArrays } from "../train/replica.ts";
import { isIdle } from "../train/savedAdapter.ts";
import { UserError } from "../utils/errors.ts";
import type { Log } from "../utils/log.ts";
import type { Model } from "./model.ts";
import { logitsApart, percent, probeLogits } from "./probe.ts";

/** One session computes both, from numbers that should be the same. */
const SAME = 1e-5;
const SET = "self-test";

/**
 * Loads the adapter in `dir` beside the one that `engine` has trained and compares the logits of one small question.
 * @throws UserError when the files cannot be loaded, or the logits differ
 */
export async function testSavedAdapter(
  dir: string,
  engine: RemoteEngine,
  { model, log }: { readonly model: Model; readonly log: Log },
): Promise<void> {
  const saved = readAdapter(dir, model.checkpoint);
  const logitsWith = async (values: NamedArrays): Promise<Float32Array> => {
    await engine.setParameters(SET, values);
    return probeLogits(engine, model.processor, SET);
  };
  try {
    const trained = await probeLogits(engine, model.processor);
    const reloaded = await logitsWith(saved.values);
    const apart = logitsApart(reloaded, trained);
    if (!(apart <= SAME))
      throw new UserError(
        `${dir}: loaded again, the adapter is not the one that was trained: logits of a small question differ by ${apart.toExponential(1)} of the largest, expected at most ${SAME}; its newest checkpoint may still be sound`,
      );
    const trainables = trainablesOf(model.checkpoint, { kind: "lora", settings: saved.settings });
    const changed = logitsApart(reloaded, await logitsWith(initialValues(model.checkpoint, trainables, null)));
    if (changed > 0) log.line(`self-test: the saved adapter loads, and moves logits by up to ${percent(changed)}`);
    else log.warn(`${dir}: the adapter changes nothing${isIdle(saved) ? ", every lora_B in it is zero" : ""}`);
  } finally {
    await engine.setParameters(SET, null);
  }
}
