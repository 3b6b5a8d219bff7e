/** ONNX forms for CUDA: products in bfloat16, everything else in float32. */
import type { Lowerings } from "./writer.ts";

export const cudaLowerings: Partial<Lowerings> = {};
