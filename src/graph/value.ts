/**
 * What a graph computes with: named values with their dtype and shape.
 *
 * Letters of shapes, everywhere in this project:
 * B batch · T tokens · D hidden · H query heads · K key/value heads · Dh head size · F feed-forward · V vocabulary ·
 * N supervised rows · M merged image tokens · P patches (4*M) · Dv vision hidden · R LoRA rank · S cached tokens.
 */
import type { Shape } from "./dim.ts";

export type DType = "float32" | "float16" | "bfloat16" | "int64" | "int32" | "uint32" | "int8" | "uint8" | "bool";

export interface Value {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;
}
