"""Tokens a second of answering with transformers: the counterpart of bench/generate.ts, on the same weights and kind of prompts.

usage: hf_generate.py --model DIR --dtype bf16 --prompt-tokens 512 --new-tokens 32 --batch 1 [--runs 5]
Prints one JSON line: prefill and decode in tokens a second over the whole batch, medians of the runs after the first.
"""
import argparse, json, resource, statistics, time, torch
from transformers import Qwen3VLForConditionalGeneration

p = argparse.ArgumentParser(); p.add_argument("--model", required=True); p.add_argument("--dtype", default="bf16")
p.add_argument("--prompt-tokens", type=int, default=512); p.add_argument("--new-tokens", type=int, default=32); p.add_argument("--batch", type=int, default=1)
p.add_argument("--runs", type=int, default=5); p.add_argument("--threads", type=int, default=2)
a = p.parse_args(); torch.set_num_threads(a.threads); torch.manual_seed(0)
m = Qwen3VLForConditionalGeneration.from_pretrained(a.model, dtype=dict(bf16=torch.bfloat16, fp32=torch.float32)[a.dtype]).eval()
ids = torch.randint(0, m.config.image_token_id - 10, (a.batch, a.prompt_tokens))

@torch.inference_mode()
def seconds(new):
    t = time.perf_counter()
    m.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0)
    return time.perf_counter() - t

seconds(2); prefills, decodes = [], []
for _ in range(a.runs):
    prefills.append(seconds(1)); decodes.append(seconds(a.new_tokens) - prefills[-1])
print(json.dumps(dict(prefill=round(a.batch * a.prompt_tokens / statistics.median(prefills), 2), decode=round(a.batch * (a.new_tokens - 1) / statistics.median(decodes), 2),
                      peak_gb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2), prompt_tokens=a.prompt_tokens, new_tokens=a.new_tokens, batch=a.batch, dtype=a.dtype)))
