#!/usr/bin/env python3
"""make_tokenizer_golden.py - makes the golden values of the tokenizer tests.

Trains two tiny BPE models (byte-level, and SentencePiece-style with byte fallback) on the texts
below, puts each into many pipelines, and records what the `tokenizers` package makes of texts
chosen to be unpleasant.  The same two vocabularies go into small GGUF
files, whose ids come from llama.cpp.

    python3 tools/make_tokenizer_golden.py tests/data

writes tokenizer_golden.json, tokenizer_llama.gguf and tokenizer_gpt2.gguf.  Needs the packages
tokenizers, gguf and llama-cpp-python.

SPDX-License-Identifier: MIT
"""

import json
import os
import sys

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CORPUS = """
A weir is the low dam that holds the head of a river in place and lets the rest flow over. The \
engine
holds the first tokens of a stream and lets the middle flow out; the millionth token costs what \
the
thousandth cost, in time and in bytes, and reads as well. They're there where we'll say what \
he'd said.
I'm sure you've seen it: it isn't the river's fault, and it doesn't matter. HELLO World, hello \
WORLD!
In 1999, 2024 and 12345678 there were 3.14159 reasons, 42 of them good (and 7 bad): 100 %, \
1,000,000.
    def forward(self, x):
        return self.norm(x + self.attend(x)) if x is not None else None
    for (int i = 0; i < n; i++) { out[i] = in[i] * 2; }  /* a comment */  // and another
Der Fluß fließt über das Wehr; die Größe ändert sich nicht. Où est la rivière? À côté de l'été \
passé.
Река течёт через плотину и не останавливается. Το ποτάμι κυλάει πάνω από το φράγμα.
河は流れて止まらない。水は低い方へ流れる。河流流过水坝,永不停止。강은 둑을 넘어 흐른다.
النهر يتدفق فوق السد ولا يتوقف. नदी बाँध के ऊपर से बहती है।
😀 😃 👍🏽 👩‍👩‍👧 🏳️‍🌈 emoji live here.    four spaces, \ttabs\t\tand

lines.
""" * 3

TEXTS = [
    "",
    " ",
    "  ",
    "   ",
    "\n",
    "\n\n\n",
    "\t",
    " \t \n ",
    "a",
    " a",
    "a ",
    "Hello world",
    " Hello  world ",
    "HELLO WORLD! hello, world...",
    "they're THEY'RE we'll WE'LL I'm i'M don't he'd 'tis '",
    "it\u2019s",
    "1 12 123 1234 12345 123456789",
    "3.14159,2.71828 1e-5 0x1F",
    "\u00b2\u00b3\u00bd \u0663\u0664 \u2167",
    "def f(x):\n    return x\n\n\nclass A:\n\tpass\r\n",
    "if (a<b && c>d) { return !e; } // \u20ac",
    "\u6cb3\u306f\u6d41\u308c\u3066\u6b62\u307e\u3089\u306a\u3044\u3002",
    "\u6cb3\u6d41\u6d41\u8fc7\u6c34\u575d,\u6c38\u4e0d\u505c\u6b62",
    "\uac15\uc740 \ub451\uc744 \ub118\uc5b4 \ud750\ub978\ub2e4",
    "\u1100\u1161\u11a8 \uac01",
    "\u0627\u0644\u0646\u0647\u0631 \u064a\u064e\u062a\u064e\u062f\u064e\u0641\u0651\u064e\u0642",
    "\u0928\u0926\u0940 \u092c\u093e\u0901\u0927 \u0915\u0947 \u090a\u092a\u0930",
    "\u0e41\u0e21\u0e48\u0e19\u0e49\u0e33\u0e44\u0e2b\u0e25",
    "e\u0301 \u00e9 \u0065\u0323\u0307 q\u0307\u0323 \u212b \ufb01 \u1e9b\u0323",
    "\u0301leading mark",
    "a" + "\u0301\u0323" * 12,
    "\U0001f600\U0001f44d\U0001f3fd "
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 \U00020000",
    "\u00a0\u3000\u2003x\u200by\u180ez\u0085w\u2028v",
    "\x00\x01\x07\x1b[0m\x7f",
    "\ufeffbom",
    "\ufffd\ufffe\U0010ffff",
    "<s>x</s>",
    "a<|end|> \n b",
    "<|user|>hi<|end|><|end|>",
    " <|user|>  hi",
    "x<|user|>y",
    "code, decode, code_2 code",
    "    four     five\t\ttabs",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "the the the the the the the the the "
    "thethethethethethethethethethethethethethethethethethethethe",
    "\u2581under \u2581\u2581 \u0120gpt\u010a",
    "\u00dcber STRASSE stra\u00dfe \u0130stanbul \u01c5",
    "\u017fmall '\u017f 'S",
    "https://example.com/a_b?c=d&e=%20#f",
    "!!!???...---___",
    "\u201cquoted\u201d \u2018single\u2019 \u2014 dash\u2026 \u00bfqu\u00e9?",
    "Mixed\u6cb3english\u0440\u0435\u043a\u0430123\u0627\u0644",
    "x" * 40 + "\n" * 5 + " " * 20 + "y",
]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
UP, LOW = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UP}*{LOW}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UP}+{LOW}*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def sequence(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


def token(i, content, special=True, normalized=False, **more):
    return {
        "id": i,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": normalized,
        "special": special,
        **more,
    }


def train():
    """The two models, as the "model" object of a tokenizer.json."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator(
        CORPUS.split("\n"),
        trainers.BpeTrainer(
            vocab_size=600,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    byte_level = json.loads(t.to_str())["model"]

    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    t.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    t.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    t.train_from_iterator(
        CORPUS.split("\n"),
        trainers.BpeTrainer(
            vocab_size=700,
            limit_alphabet=100,
            show_progress=False,
            special_tokens=["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)],
        ),
    )
    spm = json.loads(t.to_str())["model"]
    return {"bytes": byte_level, "spm": spm}


def cases(trained):
    """name, model, overrides of the tokenizer.json."""
    n = len(trained["bytes"]["vocab"])
    added = [
        token(n, "<|user|>", lstrip=True, rstrip=True),
        token(n + 1, "<|end|>"),
        token(n + 2, "<s>"),
        token(n + 3, "code", special=False, single_word=True),
        token(n + 4, "    ", special=False, normalized=True),
    ]
    decoder = {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": True,
        "use_regex": True,
    }
    for name, pre in {
        "gpt2": dict(BYTES, use_regex=True),
        "gpt2_prefix": dict(BYTES, use_regex=True, add_prefix_space=True),
        "llama3": sequence(split(LLAMA3), BYTES),
        "gpt4o": sequence(split(GPT4O), BYTES),
        "falcon": sequence(
            {"type": "Punctuation", "behavior": "Contiguous"},
            dict(BYTES, use_regex=True),
            {"type": "Digits", "individual_digits": False},
            split("[0-9][0-9][0-9]"),
        ),
        "smollm": sequence(
            {"type": "Digits", "individual_digits": True}, dict(BYTES, use_regex=True)
        ),
        "deepseek": sequence(
            split("[\r\n]"),
            split(r"\s?\p{L}+"),
            split(r"\s?\p{P}+"),
            split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
            split(r"\p{N}"),
            BYTES,
        ),
        "bloom": sequence(
            split(" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"), BYTES
        ),
        "lookahead": sequence(
            split(r"\d{1,3}(?=(?:\d{3})*\b)"), split(r"(?=(\d{2})+(?!\d))"), BYTES
        ),
        "with_previous": sequence(split(r"\s", "MergedWithPrevious"), BYTES),
        "with_next": sequence(split(r"\s", "MergedWithNext"), BYTES),
        "contiguous": sequence(split(r"\s", "Contiguous"), BYTES),
        "removed": sequence(split(r"\s", "Removed"), BYTES),
        "inverted": sequence(split(r"\w+", "Removed", True), BYTES),
    }.items():
        model = {"ignore_merges": name in ("llama3", "gpt4o")}
        post = {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}},
            ],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [n + 2], "tokens": ["<s>"]}},
        }
        yield name, "bytes", model, {
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": pre,
            "post_processor": post,
            "decoder": decoder,
        }
    for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
        yield name, "bytes", {}, {
            "added_tokens": [],
            "normalizer": {"type": name},
            "pre_tokenizer": dict(BYTES, use_regex=True),
            "post_processor": None,
            "decoder": decoder,
        }
    # The decoder of these: spaces, byte pieces, one leading space less.
    decoder = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    legacy = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        ],
    }
    post = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    for normalized in (False, True):
        specials = [
            token(i, s, normalized=normalized) for i, s in enumerate(("<unk>", "<s>", "</s>"))
        ]
        yield "llama2_%d" % normalized, "spm", {}, {
            "added_tokens": specials,
            "normalizer": legacy,
            "pre_tokenizer": None,
            "post_processor": post,
            "decoder": decoder,
        }
    for scheme in ("always", "first", "never"):
        pre = {
            "type": "Metaspace",
            "replacement": "\u2581",
            "prepend_scheme": scheme,
            "split": scheme != "never",
        }
        yield "metaspace_" + scheme, "spm", {
            "byte_fallback": False,
            "fuse_unk": scheme != "first",
        }, {
            "added_tokens": specials[:3],
            "normalizer": None,
            "pre_tokenizer": pre,
            "post_processor": post,
            "decoder": decoder,
        }


def golden(trained):
    out = {"models": trained, "texts": TEXTS, "cases": []}
    for name, model, options, pipeline in cases(trained):
        document = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            **pipeline,
            "model": {**trained[model], **options},
        }
        t = Tokenizer.from_str(json.dumps(document))
        runs = {}
        for flags in (0, 2, 3):  # WEIR_ADD_BOS = 1, WEIR_PARSE_SPECIAL = 2
            t.encode_special_tokens = not flags & 2
            runs[str(flags)] = [t.encode(x, add_special_tokens=bool(flags & 1)).ids for x in TEXTS]
        decoded = [t.decode(i, skip_special_tokens=False) for i in runs["2"]]
        out["cases"].append(
            {
                "name": name,
                "model": model,
                "options": options,
                "pipeline": pipeline,
                "ids": runs,
                "decoded": decoded,
            }
        )
    return out


def write_gguf(path, name, pieces, types, scores, merges, pre):
    import gguf

    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model(name)
    if pre:
        w.add_tokenizer_pre(pre)
    w.add_token_list(pieces)
    if scores:
        w.add_token_scores(scores)
    w.add_token_types(types)
    if merges:
        w.add_token_merges(merges)
    w.add_bos_token_id(pieces.index("<s>"))
    w.add_eos_token_id(pieces.index("</s>"))
    w.add_block_count(1)
    w.add_context_length(64)
    w.add_embedding_length(8)
    w.add_head_count(1)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def gguf_goldens(folder, trained):
    import llama_cpp

    spm = sorted(trained["spm"]["vocab"], key=trained["spm"]["vocab"].get)
    types = [2, 3, 3] + [6] * 256 + [1] * (len(spm) - 259)
    write_gguf(
        os.path.join(folder, "tokenizer_llama.gguf"),
        "llama",
        spm,
        types,
        [0.0] * 259 + [-float(i) for i in range(len(spm) - 259)],
        None,
        None,
    )
    words = sorted(trained["bytes"]["vocab"], key=trained["bytes"]["vocab"].get)
    merges = [m if isinstance(m, str) else " ".join(m) for m in trained["bytes"]["merges"]]
    write_gguf(
        os.path.join(folder, "tokenizer_gpt2.gguf"),
        "gpt2",
        words + ["<s>", "</s>", "<|end|>", "    "],
        [1] * len(words) + [3, 3, 3, 4],
        None,
        merges,
        "gpt-2",
    )
    out = {}
    for name in ("tokenizer_llama.gguf", "tokenizer_gpt2.gguf"):
        m = llama_cpp.Llama(os.path.join(folder, name), vocab_only=True, verbose=False)
        out[name] = {
            str(flags): [m.tokenize(x.encode(), add_bos=False, special=bool(flags)) for x in TEXTS]
            for flags in (0, 2)
        }
    return out


def main():
    folder = sys.argv[1]
    trained = train()
    out = golden(trained)
    out["gguf"] = gguf_goldens(folder, trained)
    with open(os.path.join(folder, "tokenizer_golden.json"), "w", encoding="utf-8") as f:
        json.dump(out, f, separators=(",", ":"))


main()
