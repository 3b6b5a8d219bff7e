// Train, merge, and answer with what was merged.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { contentsOf, DATA, filesIn, MODEL, readJson, runEntry, workingFolder } from "./entry.ts";

const RUN = "checkpoints/global_agent_lora";
const TRAINING = [
  ...["cpu", "--lora", "--use-dora", "--train", "merger", "--model", MODEL, "--data", DATA, "--no-eval", "--quiet"],
  ...["--max-steps", "2", "--accumulation", "1", "--warmup-steps", "0", "--lr", "0.01", "--max-pixels", "20480"],
];

test("a run is merged whole; what was there is refused, replaced, and never mixed with what comes", async () => {
  const cwd = workingFolder();
  const trained = await runEntry("finetuneGlobal", TRAINING, cwd);
  assert.deepEqual([trained.code, trained.stderr], [0, ""]);
  const merge = (...flags: string[]) => runEntry("merge", ["--adapter", RUN, "--out", "merged", ...flags], cwd);

  const first = await merge();
  assert.equal(first.code, 0, first.stderr);
  assert.match(first.stderr, /(^|\n)merging \d+\/\d+ · written \d\.\d\d GB\n(.*\n)*merged checkpoints\/global_agent_lora into merged; logits of a small question are \S+ % of the largest from those of base and adapter, which the adapter moves by \S+ % of the largest\n$/); // biome-ignore format: one line
  const whole = contentsOf(join(cwd, "merged"));
  assert.deepEqual(Object.keys(whole), [
    ...["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"],
    ...["preprocessor_config.json", "run_config.json", "tokenizer.json", "tokenizer_config.json"],
    "video_preprocessor_config.json",
  ]);
  assert.equal(readJson(join(cwd, "merged/preprocessor_config.json")).size.longest_edge, 20480);
  assert.equal(whole["config.json"], readFileSync(join(MODEL, "config.json"), "latin1"));

  const again = await merge("--quiet");
  assert.deepEqual([again.code, again.stderr], [2, "--out merged: is not empty; name a new folder, or add --overwrite to replace the model in it\n"]); // biome-ignore format: one line
  assert.deepEqual(contentsOf(join(cwd, "merged")), whole);

  const shards = await merge(
    "--overwrite",
    "--dtype",
    "bfloat16",
    "--max-shard-size",
    "200KB",
    "--no-check",
    "--quiet",
  );
  assert.deepEqual([shards.code, shards.stderr], [0, ""]);
  const files = filesIn(join(cwd, "merged"));
  assert.ok(files.includes("model.safetensors.index.json") && !files.includes("model.safetensors"));
  assert.ok(files.filter((file) => /^model-\d{5}-of-\d{5}\.safetensors$/.test(file)).length > 3);

  const back = await merge("--overwrite", "--quiet");
  assert.equal(back.code, 0, back.stderr);
  assert.deepEqual(contentsOf(join(cwd, "merged")), whole, "the same bytes again");
  assert.deepEqual(
    readdirSync(cwd).filter((name) => name.includes("merged")),
    ["merged"],
    "nothing unfinished beside it",
  );

  const nothing = await runEntry("merge", ["--adapter", "merged", "--out", "twice"], cwd);
  assert.deepEqual([nothing.code, nothing.stderr], [2, "merged: is a whole model, as full fine-tuning writes it, and no adapter: there is nothing to merge, use the folder as it is\n"]); // biome-ignore format: one line
});

test("without an adapter, and for another base: one message that names what does not fit, exit code 2", async () => {
  const cwd = workingFolder();
  const golden = join(MODEL, "../adapter_init");
  const embedded = join(import.meta.dirname, "../../assets/tiny-qwen3vl");
  for (const [args, message] of [
    [["--out", "x"], /^merge: --adapter: missing; it is the folder of a run, a checkpoint or a PEFT adapter\n$/],
    [["--adapter", ".", "--out", "x"], /^\.: holds neither an adapter \(adapter_config\.json\) nor a model \(config\.json\)\n$/], // biome-ignore format: one line
    [["--adapter", "no/such/run", "--out", "x"], /^"no\/such\/run": not found; expected the folder of a run, .*\n$/],
    [["--adapter", golden, "--out", "x"], /names no base_model_name_or_path; name the base with --model\n$/],
    [
      ["--adapter", golden, "--out", "x", "--model", embedded],
      /^\S+adapter_model\.safetensors: (.|\n)*"\S+lora_A\.weight" is \[4,64\], the model calls for \[4,\d+\] (.|\n)*the base here is .*tiny-qwen3vl; where it is another, name it with --model\n$/,
    ],
  ] as const) {
    const { code, stdout, stderr } = await runEntry("merge", args, cwd);
    assert.equal(code, 2, stderr);
    assert.equal(stdout, "");
    assert.match(stderr, message);
  }
  assert.deepEqual(contentsOf(cwd), {});
});
