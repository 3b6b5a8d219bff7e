// Who is told what at the start of a run: those whom it helps, and nobody else.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fewBitsAdvice, giveAdvice, largePagesAdvice, type ProcessMemory } from "../../src/app/advice.ts";
import { FULL } from "../../src/model/trainables.ts";
import { CPU, type Device } from "../../src/runtime/device.ts";
import { createLog } from "../../src/utils/log.ts";
import type { TensorDtype } from "../../src/utils/safetensors.ts";

const MANY = 2 ** 28;
const CUDA: Device = { kind: "gpu", index: 0 };

const checkpoint = (dtype: TensorDtype, count: number) => ({
  tensors: new Map([
    ["norm", { name: "norm", dtype: "F32" as const, shape: [2048], file: "", offset: 0, byteLength: 8192 }],
    ["weight", { name: "weight", dtype, shape: [count / 1024, 1024], file: "", offset: 8192, byteLength: 2 * count }],
  ]),
});

test("advice for many weights in 16 bits on a CPU", () => {
  assert.match(
    fewBitsAdvice(checkpoint("BF16", MANY + 1024), [CUDA, CPU]) ?? "",
    /stored as BF16 .*--base-quant int8.*docs\/quantisation\.md/,
  );
  assert.match(fewBitsAdvice(checkpoint("F16", 2 * MANY), [CPU]) ?? "", /stored as F16/);
  assert.equal(fewBitsAdvice(checkpoint("BF16", MANY), [CPU]), null, "few");
  assert.equal(fewBitsAdvice(checkpoint("F32", 2 * MANY), [CPU]), null, "nothing to convert");
  assert.equal(fewBitsAdvice(checkpoint("BF16", 2 * MANY), [CUDA]), null, "no CPU");
});

test("advice for many weights in small pages", () => {
  const MEMORY: ProcessMemory = { largePages: "always [madvise] never\n", glibc: "2.36", tunables: "" };
  const weights = checkpoint("F32", 2 * MANY);
  assert.match(
    largePagesAdvice(weights, [CUDA, CPU], () => MEMORY) ?? "",
    /GLIBC_TUNABLES=glibc\.malloc\.hugetlb=1 .*docs\/performance\.md/,
  );
  const silent: readonly [string, Partial<ProcessMemory>][] = [
    ["given to all", { largePages: "[always] madvise never\n" }],
    ["given to nobody", { largePages: "always madvise [never]\n" }],
    ["not Linux", { largePages: null }],
    ["not glibc", { glibc: null }],
    ["too old a glibc", { glibc: "2.34" }],
    ["asked for", { tunables: "glibc.malloc.hugetlb=1" }],
  ];
  for (const [name, memory] of silent)
    assert.equal(
      largePagesAdvice(weights, [CPU], () => ({ ...MEMORY, ...memory })),
      null,
      name,
    );
  assert.equal(
    largePagesAdvice(checkpoint("F32", MANY / 2), [CPU], () => MEMORY),
    null,
    "few",
  );
  assert.equal(
    largePagesAdvice(weights, [CUDA], () => MEMORY),
    null,
    "no CPU",
  );
});

test("few bits are advised to runs that hold the base as it is stored and do not train all of it", () => {
  const said = (use: Partial<Parameters<typeof giveAdvice>[1]>): string => {
    const lines: string[] = [];
    const stream = { write: (text: string) => lines.push(text) > 0 };
    const log = createLog({ quiet: false, stream });
    giveAdvice(checkpoint("BF16", 2 * MANY), {
      kind: null,
      spec: { kind: "none" },
      training: null,
      devices: [CPU],
      log,
      ...use,
    });
    return lines.join("");
  };
  assert.match(said({}), /^weights stored as BF16 .*\n$/);
  assert.equal(said({ kind: "int8" }), "", "in few bits already");
  assert.equal(said({ spec: FULL }), "", "all of it trains");
});
