/** The compressions of Parquet pages: none writes more than the page has announced. */
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import type { CompressionCodec } from "hyparquet/src/types.js";
import { compressors, decompressZstd } from "hyparquet-compressors";

type Decompress = (input: Uint8Array, outputLength: number) => Uint8Array;

/** Node's own where it has them: they are faster, and stop at the announced length. */
export const CODECS: { readonly [K in CompressionCodec]?: Decompress } = {
  ...compressors,
  GZIP: (input, outputLength) => gunzipSync(input, { maxOutputLength: Math.max(1, outputLength) }),
  BROTLI: (input, outputLength) => brotliDecompressSync(input, { maxOutputLength: Math.max(1, outputLength) }),
  ZSTD: (input, outputLength) => decompressZstd(input, new Uint8Array(outputLength)),
};
