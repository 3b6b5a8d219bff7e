/** The JSON files of the tiny checkpoint, spelt as on the hub for Qwen/Qwen3-VL-2B-Instruct. */
import { type Bpe, QWEN_SPLIT } from "./bpe.ts";

const SPECIAL_TOKENS = [
  "<|endoftext|>",
  "<|im_start|>",
  "<|im_end|>",
  "<|vision_start|>",
  "<|vision_end|>",
  "<|image_pad|>",
  "<|video_pad|>",
] as const;
export type SpecialToken = (typeof SPECIAL_TOKENS)[number];

/** Special tokens come after the learnt ones. */
export function specialIds(bpe: Bpe): Readonly<Record<SpecialToken, number>> {
  const ids = SPECIAL_TOKENS.map((token, i) => [token, bpe.tokens.length + i] as const);
  return Object.fromEntries(ids) as Record<SpecialToken, number>;
}

export type TinyConfig = ReturnType<typeof modelConfig>;

/** `config.json`. The embedding is padded to a multiple of 64 rows, as Qwen's. */
export function modelConfig(bpe: Bpe) {
  const ids = specialIds(bpe);
  return {
    architectures: ["Qwen3VLForConditionalGeneration"],
    image_token_id: ids["<|image_pad|>"],
    model_type: "qwen3_vl",
    text_config: {
      attention_bias: false,
      attention_dropout: 0,
      bos_token_id: ids["<|endoftext|>"],
      dtype: "bfloat16",
      eos_token_id: ids["<|im_end|>"],
      head_dim: 32,
      hidden_act: "silu",
      hidden_size: 160,
      initializer_range: 0.02,
      intermediate_size: 448,
      max_position_embeddings: 4096,
      model_type: "qwen3_vl_text",
      num_attention_heads: 6,
      num_hidden_layers: 4,
      num_key_value_heads: 3,
      rms_norm_eps: 1e-6,
      rope_scaling: { mrope_interleaved: true, mrope_section: [6, 5, 5], rope_type: "default" },
      rope_theta: 1_000_000,
      tie_word_embeddings: true,
      use_cache: true,
      vocab_size: Math.ceil((bpe.tokens.length + SPECIAL_TOKENS.length) / 64) * 64,
    },
    tie_word_embeddings: true,
    video_token_id: ids["<|video_pad|>"],
    vision_config: {
      deepstack_visual_indexes: [0],
      depth: 3,
      hidden_act: "gelu_pytorch_tanh",
      hidden_size: 96,
      in_channels: 3,
      initializer_range: 0.02,
      intermediate_size: 256,
      model_type: "qwen3_vl",
      num_heads: 4,
      num_position_embeddings: 256,
      out_hidden_size: 160,
      patch_size: 16,
      spatial_merge_size: 2,
      temporal_patch_size: 2,
    },
    vision_end_token_id: ids["<|vision_end|>"],
    vision_start_token_id: ids["<|vision_start|>"],
  };
}

/** `tokenizer.json` */
export function tokenizerJson(bpe: Bpe): unknown {
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: Object.entries(specialIds(bpe)).map(([content, id]) => ({ id, content, ...PLAIN_ADDED })),
    normalizer: { type: "NFC" },
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex: QWEN_SPLIT }, behavior: "Isolated", invert: false },
        { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
      ],
    },
    post_processor: { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
    decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(bpe.tokens.map((token, id) => [token, id])),
      merges: bpe.merges,
    },
  };
}

const PLAIN_ADDED = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };

/** `tokenizer_config.json` */
export function tokenizerConfig(bpe: Bpe, chatTemplate: string): unknown {
  const decoder = Object.entries(specialIds(bpe)).map(([content, id]) => [id, { content, ...PLAIN_ADDED }]);
  return {
    add_bos_token: false,
    add_prefix_space: false,
    added_tokens_decoder: Object.fromEntries(decoder),
    bos_token: null,
    chat_template: chatTemplate,
    clean_up_tokenization_spaces: false,
    eos_token: "<|im_end|>",
    errors: "replace",
    model_max_length: 4096,
    pad_token: "<|endoftext|>",
    split_special_tokens: false,
    tokenizer_class: "Qwen2Tokenizer",
    unk_token: null,
  };
}

/** `preprocessor_config.json`: pictures of 4 to 64 tokens keep their size, so the embedded screens (32 tokens) do. */
export const preprocessorConfig = {
  size: { longest_edge: 64 * 32 * 32, shortest_edge: 4 * 32 * 32 },
  patch_size: 16,
  temporal_patch_size: 2,
  merge_size: 2,
  image_mean: [0.5, 0.5, 0.5],
  image_std: [0.5, 0.5, 0.5],
  processor_class: "Qwen3VLProcessor",
  image_processor_type: "Qwen2VLImageProcessorFast",
};

/** `generation_config.json` */
export function generationConfig(bpe: Bpe): unknown {
  const ids = specialIds(bpe);
  return {
    bos_token_id: ids["<|endoftext|>"],
    pad_token_id: ids["<|endoftext|>"],
    do_sample: false,
    max_new_tokens: 64, // the longest answer of the embedded users takes 24
    eos_token_id: [ids["<|im_end|>"], ids["<|endoftext|>"]],
  };
}
