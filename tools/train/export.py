"""export.py - write the trained model as a Hugging Face folder and as a GGUF file.

    python export.py --weights RUN/weights.pt --tokenizer tokenizer \
        --hf FOLDER --gguf model-q8_0.gguf

The GGUF holds Q8_0 matrices and F32 norms, with q and k rows in the order
that llama.cpp's rotary embedding expects.

SPDX-License-Identifier: MIT
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import tokenizer as chat
from train import FIRST

NAME = "Weir 25M"


def hugging_face(folder, config, weights, tokenizer, bos):
    """safetensors in float16, config and tokenizer, as LlamaForCausalLM."""
    from safetensors.torch import save_file
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"model." + name: tensor.half().contiguous()
               for name, tensor in weights.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    head_dim = config["dim"] // config["heads"]
    write(folder / "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "vocab_size": config["vocab"], "hidden_size": config["dim"],
        "intermediate_size": config["ffn"], "num_hidden_layers": config["layers"],
        "num_attention_heads": config["heads"],
        "num_key_value_heads": config["kv_heads"], "head_dim": head_dim,
        "max_position_embeddings": config["context"],
        "rope_theta": config["theta"],
        "rope_parameters": {"rope_type": "default",
                            "rope_theta": config["theta"]},
        "rms_norm_eps": config["eps"], "hidden_act": "silu",
        "attention_bias": False, "mlp_bias": False,
        "tie_word_embeddings": True, "torch_dtype": "float16",
        "bos_token_id": bos, "eos_token_id": chat.END_ID,
        "pad_token_id": chat.BOS_ID})
    write(folder / "generation_config.json", {
        "bos_token_id": bos, "eos_token_id": [chat.END_ID, chat.BOS_ID],
        "pad_token_id": chat.BOS_ID, "do_sample": True,
        "temperature": 0.7, "top_p": 0.9})
    write(folder / "tokenizer_config.json", chat.config(chat.SPECIAL[bos]))
    # Encoding puts BOS in front, as every training window had it.
    data = json.loads((tokenizer / "tokenizer.json").read_text())
    token = chat.SPECIAL[bos]
    data["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"SpecialToken": {"id": token, "type_id": 0}},
                 {"Sequence": {"id": "A", "type_id": 0}},
                 {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [bos],
                                   "tokens": [token]}}}
    (folder / "tokenizer.json").write_text(
        json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def permute(matrix, heads):
    """From Hugging Face's order of rotary rows (halves) to llama.cpp's
    (neighbours)."""
    rows, columns = matrix.shape
    return (matrix.reshape(heads, 2, rows // heads // 2, columns)
            .swapaxes(1, 2).reshape(rows, columns))


GGUF_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down"}


def gguf_tensors(config, weights):
    yield "token_embd.weight", weights["embed_tokens.weight"]
    for index in range(config["layers"]):
        for theirs, ours in GGUF_NAMES.items():
            tensor = weights[f"layers.{index}.{theirs}.weight"]
            if ours == "attn_q":
                tensor = permute(tensor, config["heads"])
            elif ours == "attn_k":
                tensor = permute(tensor, config["kv_heads"])
            yield f"blk.{index}.{ours}.weight", tensor
    yield "output_norm.weight", weights["norm.weight"]


def gguf_file(path, config, weights, tokenizer, bos, license_, tokens):
    import gguf
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_type("model")
    writer.add_name(NAME)
    writer.add_basename("weir")
    writer.add_size_label("25M")
    writer.add_license(license_)
    writer.add_languages(["en"])
    writer.add_description(
        f"The small model that weir ships, trained on {tokens / 1e9:.1f} "
        "billion tokens of public-domain books, stories and dialogues.")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config["vocab"])
    writer.add_context_length(config["context"])
    writer.add_embedding_length(config["dim"])
    writer.add_block_count(config["layers"])
    writer.add_feed_forward_length(config["ffn"])
    writer.add_head_count(config["heads"])
    writer.add_head_count_kv(config["kv_heads"])
    head_dim = config["dim"] // config["heads"]
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config["theta"])
    writer.add_layer_norm_rms_eps(config["eps"])

    model = json.loads((tokenizer / "tokenizer.json").read_text())["model"]
    entries = sorted(model["vocab"], key=model["vocab"].get)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    control = set(chat.SPECIAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(entries)
    writer.add_token_types([gguf.TokenType.CONTROL if e in control
                            else gguf.TokenType.NORMAL for e in entries])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(bos)
    writer.add_eos_token_id(chat.END_ID)
    writer.add_eot_token_id(chat.END_ID)
    writer.add_pad_token_id(chat.BOS_ID)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(chat.CHAT_TEMPLATE)

    for name, tensor in gguf_tensors(config, weights):
        array = np.ascontiguousarray(tensor.float().numpy())
        if array.ndim == 1:
            writer.add_tensor(name, array)
            continue
        quantized = gguf.quants.quantize(array, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, quantized,
                          raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0].split(" - ")[1])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--hf", type=Path, help="folder to write")
    parser.add_argument("--gguf", type=Path, help="file to write")
    parser.add_argument("--license", default="cc-by-sa-4.0")
    arguments = parser.parse_args()
    state = torch.load(arguments.weights, map_location="cpu",
                       weights_only=False)
    bos = FIRST[state["variant"]]
    config, weights = state["config"], state["model"]
    if arguments.hf:
        hugging_face(arguments.hf, config, weights, arguments.tokenizer, bos)
    if arguments.gguf:
        gguf_file(arguments.gguf, config, weights, arguments.tokenizer, bos,
                  arguments.license, state["tokens"])
        print(f"{arguments.gguf}: {arguments.gguf.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
