"""A real llama.cpp server, on a model so small that it is made on the spot.

Runs in the environment of requirements-llama.txt: `python llama_server.py FOLDER`. Prints its
base URL, then serves until it is killed. The model says a few words in random order; the protocol
around them is llama.cpp's own.
"""

import sys
import time
from pathlib import Path

import gguf
import numpy
import xllamacpp

WIDTH, LAYERS, HEADS, INNER, CONTEXT = 64, 2, 4, 128, 2048
WORDS = ["▁the", "▁magpie", "▁bridge", "▁of", "▁stars", "▁is", "▁made", "▁river", "▁and", "▁over"]


def write_vocabulary(model):
    """A SentencePiece vocabulary: three special tokens, every byte, and some words."""
    special = [("<unk>", gguf.TokenType.UNKNOWN), ("<s>", gguf.TokenType.CONTROL)]
    special += [("</s>", gguf.TokenType.CONTROL)]
    tokens = special + [(f"<0x{byte:02X}>", gguf.TokenType.BYTE) for byte in range(256)]
    tokens += [(word, gguf.TokenType.NORMAL) for word in WORDS]
    model.add_tokenizer_model("llama")
    model.add_token_list([text for text, _ in tokens])
    model.add_token_scores([0.0] * len(tokens))
    model.add_token_types([kind for _, kind in tokens])
    model.add_unk_token_id(0)
    model.add_bos_token_id(1)
    model.add_eos_token_id(2)
    turns = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    model.add_chat_template(turns + "assistant:")
    return len(tokens)


def write_weights(model, vocabulary):
    """Random matrices in the shapes of the Llama architecture. Only the first of the model's
    numbers means something: it stays as it is, and pushes all tokens down but the words."""
    random = numpy.random.default_rng(seed=7)

    def noise(rows, columns):
        return random.normal(0, 0.1, (rows, columns)).astype(numpy.float32)

    def add(name, values):
        model.add_tensor(f"{name}.weight", values)

    tokens, output = noise(vocabulary, WIDTH), noise(vocabulary, WIDTH)
    tokens[:, 0] = 5
    output[:, 0] = -10
    output[-len(WORDS) :, 0] = 10
    add("token_embd", tokens)
    add("output", output)
    add("output_norm", numpy.ones(WIDTH, dtype=numpy.float32))
    for layer in (f"blk.{number}" for number in range(LAYERS)):
        for name in ("attn_norm", "ffn_norm"):
            add(f"{layer}.{name}", numpy.ones(WIDTH, dtype=numpy.float32))
        for name in ("attn_q", "attn_k", "attn_v"):
            add(f"{layer}.{name}", noise(WIDTH, WIDTH))
        for name in ("ffn_gate", "ffn_up"):
            add(f"{layer}.{name}", noise(INNER, WIDTH))
        for name, inner in (("attn_output", WIDTH), ("ffn_down", INNER)):
            values = noise(WIDTH, inner)
            values[0] = 0
            add(f"{layer}.{name}", values)


def make_model(path):
    model = gguf.GGUFWriter(path, "llama")
    model.add_context_length(CONTEXT)
    model.add_embedding_length(WIDTH)
    model.add_block_count(LAYERS)
    model.add_feed_forward_length(INNER)
    model.add_head_count(HEADS)
    model.add_head_count_kv(HEADS)
    model.add_layer_norm_rms_eps(1e-5)
    model.add_rope_dimension_count(WIDTH // HEADS)
    model.add_vocab_size(3 + 256 + len(WORDS))
    write_weights(model, write_vocabulary(model))
    model.write_header_to_file()
    model.write_kv_data_to_file()
    model.write_tensors_to_file()
    model.close()


def main():
    path = Path(sys.argv[1]) / "tiny.gguf"
    make_model(path)
    settings = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.n_ctx = CONTEXT
    settings.n_parallel = 1
    settings.cpuparams.n_threads = 1
    settings.warmup = False
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.embedding = True
    settings.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)
    time.sleep(3600)


if __name__ == "__main__":
    main()
