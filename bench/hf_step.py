"""Time and peak memory of one LoRA micro-batch (forward + backward) in transformers + PEFT on random weights.

usage: hf_step.py --shape 2b --dtype bf16 --image 1080x2400 --prompt-tokens 110 --answer-tokens 25 --steps 3 [--text-only T]
Prints one JSON line. Shapes are those of the public Qwen3-VL configs.
"""
import argparse, json, resource, time, torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
from peft import LoraConfig, get_peft_model
SHAPES = {
    "2b": (dict(hidden_size=2048, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8, head_dim=128, intermediate_size=6144, vocab_size=151936),
           dict(depth=24, hidden_size=1024, num_heads=16, intermediate_size=4096, num_position_embeddings=2304, deepstack_visual_indexes=[5, 11, 17]), True),
    "4b": (dict(hidden_size=2560, num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8, head_dim=128, intermediate_size=9728, vocab_size=151936),
           dict(depth=24, hidden_size=1024, num_heads=16, intermediate_size=4096, num_position_embeddings=2304, deepstack_visual_indexes=[5, 11, 17]), True),
    "8b": (dict(hidden_size=4096, num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8, head_dim=128, intermediate_size=12288, vocab_size=151936),
           dict(depth=27, hidden_size=1152, num_heads=16, intermediate_size=4304, num_position_embeddings=2304, deepstack_visual_indexes=[8, 16, 24]), False),
    "tiny": (dict(hidden_size=160, num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=3, head_dim=32, intermediate_size=448, vocab_size=832),
             dict(depth=3, hidden_size=96, num_heads=4, intermediate_size=256, num_position_embeddings=256, deepstack_visual_indexes=[0]), True),
    "small": (dict(hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=4, head_dim=64, intermediate_size=1536, vocab_size=32000),
              dict(depth=6, hidden_size=256, num_heads=4, intermediate_size=1024, num_position_embeddings=256, deepstack_visual_indexes=[1, 2, 3]), True),
}
def build(shape, dtype):
    t, v, tie = SHAPES[shape]; half = t["head_dim"] // 2; q = round(half * 20 / 64)
    cfg = Qwen3VLConfig(text_config=dict(rope_theta=5000000.0, tie_word_embeddings=tie, max_position_embeddings=262144,
                                         rope_scaling=dict(rope_type="default", mrope_section=[half - 2 * q, q, q], mrope_interleaved=True), **t),
                        vision_config=dict(out_hidden_size=t["hidden_size"], patch_size=16, spatial_merge_size=2, temporal_patch_size=2, **v),
                        image_token_id=t["vocab_size"] - 281, video_token_id=t["vocab_size"] - 280, vision_start_token_id=t["vocab_size"] - 284,
                        vision_end_token_id=t["vocab_size"] - 283, tie_word_embeddings=tie)
    torch.set_default_dtype(dtype)
    with torch.device("meta"): m = Qwen3VLForConditionalGeneration(cfg)
    m = m.to_empty(device="cpu")
    with torch.no_grad():
        for n, p in m.named_parameters(): p.normal_(0, 0.02) if p.dim() > 1 else (p.zero_() if n.endswith("bias") else p.fill_(1))
        for mod in m.modules():                       # non-persistent buffers lost on meta
            if hasattr(mod, "inv_freq") and mod.inv_freq is not None:
                d = mod.inv_freq.numel() * 2; th = 5e6 if "Text" in type(mod).__name__ else 1e4
                mod.inv_freq.copy_(1.0 / th ** (torch.arange(0, d, 2).float() / d))
                if getattr(mod, "original_inv_freq", None) is not None: mod.original_inv_freq = mod.inv_freq
    m.tie_weights(); return m, cfg
if __name__ == "__main__":
    p = argparse.ArgumentParser(); p.add_argument("--shape", default="2b"); p.add_argument("--dtype", default="bf16"); p.add_argument("--image", default="1080x2400")
    p.add_argument("--prompt-tokens", type=int, default=110); p.add_argument("--answer-tokens", type=int, default=25); p.add_argument("--steps", type=int, default=3)
    p.add_argument("--text-only", type=int, default=0); p.add_argument("--threads", type=int, default=2); p.add_argument("--checkpointing", action="store_true"); p.add_argument("--save")
    a = p.parse_args(); torch.set_num_threads(a.threads); dt = dict(bf16=torch.bfloat16, fp32=torch.float32)[a.dtype]
    m, cfg = build(a.shape, dt)
    if a.save: m.save_pretrained(a.save); raise SystemExit
    m = get_peft_model(m, LoraConfig(r=4, lora_alpha=32, lora_dropout=0.0, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])); m.train()
    if a.checkpointing: m.gradient_checkpointing_enable(); m.enable_input_require_grads()
    V = cfg.text_config.vocab_size; kw = {}
    if a.text_only: ids = torch.randint(0, V - 300, (1, a.text_only)); n_img = 0
    else:
        W, H = map(int, a.image.split("x")); b = max(1.0, (W * H / 1003520) ** .5); gw, gh = int(W / b / 32) * 2, int(H / b / 32) * 2; n_img = gw * gh // 4
        kw = dict(pixel_values=torch.randn(gw * gh, 1536, dtype=dt), image_grid_thw=torch.tensor([[1, gh, gw]]))
        ids = torch.cat([torch.tensor([cfg.vision_start_token_id] + [cfg.image_token_id] * n_img + [cfg.vision_end_token_id]), torch.randint(0, V - 300, (a.prompt_tokens + a.answer_tokens,))])[None]
    kw["mm_token_type_ids"] = (ids == cfg.image_token_id).long()
    lab = ids.clone(); lab[:, :-a.answer_tokens] = -100; ts = []
    for _ in range(a.steps):
        t = time.time(); m(input_ids=ids, labels=lab, **kw).loss.backward(); m.zero_grad(); ts.append(round(time.time() - t, 3))
    print(json.dumps(dict(shape=a.shape, dtype=a.dtype, tokens=ids.shape[1], image_tokens=n_img, answer_tokens=a.answer_tokens, seconds=ts, best=min(ts), peak_gb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2))))
