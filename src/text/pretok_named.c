/* pretok_named.c - the pre-tokenizers that GGUF files know by name.
 *
 * A GGUF does not carry its model's patterns, only a name for them (tokenizer.ggml.pre).  The table
 * below says what each name stands for: one to six patterns, each applied to the pieces the one
 * before it left, matches and gaps alike.  Where llama.cpp approximates a pattern that its own
 * engine cannot run (gpt-4o, tekken), the model's pattern is used.  A name that is not in the table
 * is an error: cutting words differently shifts every token.
 *
 * The names and patterns are facts of the released models; llama.cpp's conversion script assigns
 * the names.  Test: tests/text/test_tokenizer_gguf.c, against ids of the models' own tokenizers.
 *
 * SPDX-License-Identifier: MIT */
#include "text/pretok.h"

#include <string.h>

// clang-format off
#define GPT2 PRETOK_GPT2
#define SUFFIX "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LETTERS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define SYMBOLS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define NEWLINES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CL100K(digits) SUFFIX "|" LETTERS "|" digits "|" SYMBOLS "|" NEWLINES

/* Words by case: an optional leading symbol, upper-case letters, lower-case ones, at least one. */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(suffix) "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" suffix "|" \
                      "[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" suffix
#define O200K(suffix, digits) \
    CASED(suffix) "|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" NEWLINES

#define HAN "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
#define KANA "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+"
#define BLOOM " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"

static const char cased_letters[] = "\\s?["
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}"
    "\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}"
    "\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}"
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}"
    "\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}"
    "\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}"
    "\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}"
    "\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}"
    "\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}"
    "\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}"
    "\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}"
    "\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}"
    "\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}"
    "\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}"
    "\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}"
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}"
    "\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}"
    "\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"
    "]+";

enum { PATTERNS = 6, NAMES = 14 };

typedef struct family {
    const char *names[NAMES];
    const char *patterns[PATTERNS];
    pretok_named also;
} family;

static const family families[] = {
    {{"default"},
     {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, {0}},
    {{"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "jina-es", "jina-de",
      "gigachat", "a.x-4.0", "mellum", "modern-bert", "exaone4"},
     {GPT2}, {0}},
    {{"jina-v2-es", "jina-v2-de", "jina-v1-en", "jina-v2-code", "roberta-bpe"}, {GPT2}, {0}},
    {{"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
      "jina-v5-nano"},
     {CL100K("\\p{N}{1,3}")}, {.ignore_merges = true, .adds_bos = true}},
    {{"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"}, {CL100K("\\p{N}{1,3}")}, {0}},
    {{"qwen2", "stablelm2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "hunyuan",
      "solar-open", "grok-2"},
     {CL100K("\\p{N}")}, {0}},
    {{"qwen35"},
     {SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|"
      NEWLINES}, {0}},
    {{"minicpm5"}, {"\\p{N}{1,3}", CL100K("\\p{N}+")}, {.ignore_merges = true}},
    {{"seed-coder"},
     {SUFFIX "|" LETTERS "|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" NEWLINES}, {0}},
    {{"jais-2"},
     {SUFFIX "|" LETTERS "|\\p{N}{1,3}|" SYMBOLS "|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|"
      "\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|"
      "\\s{1,2}(?!\\S)|\\s{1}"}, {0}},
    {{"bailingmoe", "bailingmoe2", "llada-moe"},
     {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|"
      "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}, {0}},
    {{"exaone-moe"},
     {SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}|"
      " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}, {0}},
    {{"deepseek-llm"},
     {"[\\r\\n]", cased_letters,
      "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
      "\\s+$", HAN, "\\p{N}+"}, {0}},
    {{"deepseek-coder"}, {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", HAN, "\\p{N}"}, {0}},
    {{"deepseek-v3", "hunyuan-dense", "joyai-llm"},
     {"\\p{N}{1,3}", KANA,
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
      "[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
      " ?[\\p{P}\\p{S}]+[\\r\\n]*|" NEWLINES}, {0}},
    {{"falcon"}, {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}, {0}},
    {{"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"},
     {"\\p{N}", GPT2}, {0}},
    {{"bloom", "poro-chat", "gpt3-finnish"}, {BLOOM}, {0}},
    {{"viking"}, {BLOOM, "\\p{N}"}, {0}},
    {{"tekken"}, {O200K("", "\\p{N}")}, {.ignore_merges = true, .adds_bos = true}},
    {{"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"},
     {O200K(SUFFIX "?", "\\p{N}{1,3}")}, {0}},
    {{"tiny_aya", "cohere2moe"},
     {"\\d{1,3}(?=(?:\\d{3})*\\b)", O200K(SUFFIX "?", "\\p{N}{1,3}")}, {0}},
    {{"youtu"},
     {"[\\x{ac00}-\\x{d7a3}\\x{3131}-\\x{318e}]+|[\\x{ff01}\\x{2026}\\x{201c}\\x{201d}\\x{2018}"
      "\\x{2019}\\x{2014}\\x{ff1a}\\x{ff1b}\\x{ff0c}\\x{3001}-\\x{303f}\\x{fe30}-\\x{fe4f}]+|"
      "[\\x{3105}-\\x{312f}]+|" KANA,
      O200K(SUFFIX "?", "\\p{N}")}, {.ignore_merges = true}},
    {{"superbpe"}, {"\\p{N}+", "(?=(\\d{3})+(?!\\d))"}, {0}},
    {{"chameleon"},
     {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )", "\\p{N}",
      "[\\p{P}!-/:-@\\[-`{-~]", GPT2}, {.adds_bos = true}},
};
// clang-format on

static const family *find_family(const char *name, size_t size) {
    for (size_t f = 0; f < COUNT_OF(families); f++) {
        for (int i = 0; i < NAMES && families[f].names[i]; i++) {
            const char *known = families[f].names[i];
            if (strlen(known) == size && memcmp(known, name, size) == 0) return &families[f];
        }
    }
    return NULL;
}

weir_status pretok_open_named(pretok *p, pretok_named *out, const char *name, size_t size,
                              const char *path, weir_error *err) {
    const family *f = find_family(name, size);
    if (!f) {
        return weir_fail(err, WEIR_ERR_MODEL, "%s: pre-tokenizer \"%.*s\" is not known", path,
                         (int)MIN_OF(size, (size_t)100), name);
    }
    *out = f->also;
    for (int i = 0; i < PATTERNS && f->patterns[i]; i++) {
        WEIR_TRY(pretok_add_split(p, f->patterns[i], strlen(f->patterns[i]), SPLIT_ISOLATED, false,
                                  path, err));
    }
    return WEIR_OK;
}
