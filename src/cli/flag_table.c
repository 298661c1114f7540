/* flag_table.c - every flag of every command, once.
 *
 * The order is the order of --help.  Sampling defaults: temperature 0.7 with min-p 0.05 and top-p
 * 0.95 keeps small models coherent and large ones lively; they are the middle of what llama.cpp
 * (0.8, min-p 0.05, top-p 0.95, top-k 40) and the model cards of Qwen and Llama (0.6 to 0.7,
 * top-p 0.8 to 0.95) recommend.  top-k is off: min-p does its work without a fixed count.
 *
 * SPDX-License-Identifier: MIT */
#include "cli/options.h"

#define AT(field) offsetof(options, field)

enum {
    WITH_ENGINE = IN_CHAT | IN_GENERATE | IN_PERPLEXITY | IN_BENCH | IN_INFO,
    WITH_SESSION = IN_CHAT | IN_GENERATE | IN_PERPLEXITY | IN_BENCH,
    WITH_REPLY = IN_CHAT | IN_GENERATE,
    WITH_KERNELS = WITH_ENGINE | IN_BUILD,
    WITH_OUTPUT = WITH_KERNELS | IN_TOKENIZE,
};

#define INT_LIMIT  2147483647.0
#define LONG_LIMIT 9007199254740992.0 /* 2^53: every seed is exact in a double and in JSON */
#define REAL_LIMIT 1e9
#define TEXT_LIMIT 16777216.0 /* 2^24 tokens, as many as the largest window has */

const char *const GROUP_TITLES[GROUP_COUNT] = {
    [GROUP_COMMAND] = "Options",
    [GROUP_MACHINE] = "Model and machine",
    [GROUP_STREAM] = "Streaming",
    [GROUP_SAMPLING] = "Choosing tokens",
    [GROUP_OUTPUT] = "Output and the like",
};

/* clang-format off */
const flag FLAGS[] = {
    /* what single commands take */
    {"prompt", 'p', FLAG_TEXT, AT(prompt), "TEXT", NULL, 0, 0, IN_GENERATE, GROUP_COMMAND,
     "the text to go on from; without it, --file or standard input"},
    {"file", 'f', FLAG_PATH, AT(file), "FILE", NULL, 0, 0, IN_GENERATE, GROUP_COMMAND,
     "read the prompt from FILE; - is standard input"},
    {"token-ids", 0, FLAG_PATH, AT(token_ids), "FILE", NULL, 0, 0, IN_GENERATE, GROUP_COMMAND,
     "the prompt as token ids separated by white space, taken as they are; the output is ids, too, "
     "so no tokenizer is needed"},
    {"tokens", 'n', FLAG_INT, AT(tokens), "N", "256", -1, INT_LIMIT, IN_GENERATE, GROUP_COMMAND,
     "stop after N tokens; -1: go on until the model ends its text"},
    {"tokens", 'n', FLAG_INT, AT(tokens), "N", "-1", -1, INT_LIMIT, IN_CHAT, GROUP_COMMAND,
     "cut each reply off after N tokens; -1: the model ends it"},
    {"echo", 0, FLAG_SWITCH, AT(echo), NULL, NULL, 0, 0, IN_GENERATE, GROUP_COMMAND,
     "print the prompt in front of its continuation"},
    {"system", 0, FLAG_TEXT, AT(system), "TEXT", NULL, 0, 0, IN_CHAT, GROUP_COMMAND,
     "the system prompt; it is pinned and never leaves the window"},
    {"script", 0, FLAG_PATH, AT(script), "FILE", NULL, 0, 0, IN_CHAT, GROUP_COMMAND,
     "take the messages from FILE, one a line, and print them with the replies"},
    {"load", 0, FLAG_PATH, AT(load), "FILE", NULL, 0, 0, WITH_REPLY, GROUP_COMMAND,
     "continue the session saved in FILE"},
    {"save", 0, FLAG_PATH, AT(save), "FILE", NULL, 0, 0, WITH_REPLY, GROUP_COMMAND,
     "save the session to FILE at the end, also when a signal ends it"},

    {"text", 0, FLAG_PATH, AT(text), "FILE", NULL, 0, 0, IN_PERPLEXITY, GROUP_COMMAND,
     "the text to read; - is standard input"},
    {"token-ids", 0, FLAG_PATH, AT(token_ids), "FILE", NULL, 0, 0, IN_PERPLEXITY, GROUP_COMMAND,
     "token ids separated by white space, taken as they are, no BOS added; - is standard input"},
    {"no-bos", 0, FLAG_SWITCH, AT(no_bos), NULL, NULL, 0, 0, IN_PERPLEXITY, GROUP_COMMAND,
     "do not begin --text with the model's BOS token"},
    {"limit", 0, FLAG_INT, AT(limit), "N", "all", 1, INT_LIMIT, IN_PERPLEXITY, GROUP_COMMAND,
     "read the first N tokens only"},
    {"stride", 0, FLAG_INT, AT(stride), "N", "1", 1, INT_LIMIT, IN_PERPLEXITY, GROUP_COMMAND,
     "with --mode recompute, look at every Nth token only"},
    {"logits", 0, FLAG_PATH, AT(logits), "FILE.npy", NULL, 0, 0, IN_PERPLEXITY, GROUP_COMMAND,
     "write the logits: float32 [tokens, vocab], row i is after token i"},
    {"csv", 0, FLAG_PATH, AT(csv), "FILE", NULL, 0, 0, IN_PERPLEXITY, GROUP_COMMAND,
     "write position,nll for every token predicted"},
    {"plot", 0, FLAG_PATH, AT(plot), "FILE.svg", NULL, 0, 0, IN_PERPLEXITY, GROUP_COMMAND,
     "draw perplexity over the text with gnuplot; the data goes to --csv, or to FILE.csv"},

    {"prefill", 0, FLAG_INT, AT(prefill), "N", "512", 1, TEXT_LIMIT, IN_BENCH, GROUP_COMMAND,
     "tokens of the prompt that is timed"},
    {"tokens", 'n', FLAG_INT, AT(tokens), "N", "64", 1, TEXT_LIMIT, IN_BENCH, GROUP_COMMAND,
     "tokens decoded in each repetition"},
    {"depth", 0, FLAG_INT, AT(depth), "N", "full", 1, INT_LIMIT, IN_BENCH, GROUP_COMMAND,
     "tokens in the window when decoding begins; full: as many as it holds"},
    {"sessions", 0, FLAG_INT, AT(sessions), "N", "1", 1, 4096, IN_BENCH, GROUP_COMMAND,
     "also decode N sessions in one step"},
    {"at", 0, FLAG_LONG, AT(at), "POS", NULL, 0, LONG_LIMIT, IN_BENCH, GROUP_COMMAND,
     "also decode from stream position POS on, which must cost the same"},
    {"repeat", 'r', FLAG_INT, AT(repeat), "N", "3", 1, 1000, IN_BENCH, GROUP_COMMAND,
     "repetitions; the median counts"},

    {"seed", 's', FLAG_LONG, AT(seed), "N", "0", 0, LONG_LIMIT, IN_BENCH, GROUP_COMMAND,
     "of the random tokens"},

    {"sessions", 0, FLAG_INT, AT(sessions), "N", "1", 1, 4096, IN_INFO, GROUP_COMMAND,
     "lay out memory for N sessions"},
    {"plan", 0, FLAG_SWITCH, AT(plan), NULL, NULL, 0, 0, IN_INFO, GROUP_COMMAND,
     "print the plan: operations, tensors and where they lie in memory"},

    {"seed", 's', FLAG_LONG, AT(seed), "N", "0", 0, LONG_LIMIT, IN_PERPLEXITY | IN_INFO,
     GROUP_COMMAND, "accepted, as everywhere; nothing here is random"},

    {"output", 'o', FLAG_PATH, AT(output), "FILE", NULL, 0, 0, IN_BUILD, GROUP_COMMAND,
     "the engine file that is written"},
    {"target", 0, FLAG_TEXT, AT(target), "LIST", "here", 0, 0, IN_BUILD, GROUP_COMMAND,
     "the GPUs it is for, with commas between: sm_80 (A100), sm_89, sm_90a (H100, H200), sm_100, "
     "...; here: the one of this machine"},

    {"no-bos", 0, FLAG_SWITCH, AT(no_bos), NULL, NULL, 0, 0, IN_TOKENIZE, GROUP_COMMAND,
     "leave out the tokens that the model wants in front of a text"},
    {"decode", 'd', FLAG_SWITCH, AT(decode), NULL, NULL, 0, 0, IN_TOKENIZE, GROUP_COMMAND,
     "the reverse: ids on standard input, their text on standard output"},
    {"special", 0, FLAG_SWITCH, AT(special), NULL, NULL, 0, 0, IN_TOKENIZE, GROUP_COMMAND,
     "take the names of special tokens in the text, like <|im_end|>, as these tokens"},

    {"man", 0, FLAG_SWITCH, AT(man), NULL, NULL, 0, 0, IN_HELP, GROUP_COMMAND,
     "print the man page (troff)"},
    {"completion", 0, FLAG_CHOICE, AT(completion), "bash|zsh|fish", NULL, 0, 0, IN_HELP,
     GROUP_COMMAND, "print the completion script of a shell"},

    /* the model and the machine */
    {"backend", 0, FLAG_TEXT, AT(backend), "auto|cuda|cpu|ref", "auto", 0, 0, WITH_ENGINE,
     GROUP_MACHINE,
     "what computes; auto: a GPU that can, else the CPU; cpu-avx2 and the like: that level of the "
     "CPU; ref: plain C, slow, for checking"},
    {"engine", 0, FLAG_PATH, AT(engine), "FILE", NULL, 0, 0, WITH_ENGINE, GROUP_MACHINE,
     "take the GPU's kernels from this file, which `weir build` made, and never from elsewhere"},
    {"threads", 't', FLAG_INT, AT(threads), "N", "all", 1, 1024, WITH_ENGINE, GROUP_MACHINE,
     "threads of the CPU"},
    {"quantize", 0, FLAG_CHOICE, AT(quantize), "q8|q4", NULL, 0, 0, WITH_KERNELS, GROUP_MACHINE,
     "pack 16- and 32-bit weights to 8 or 4 bit while loading"},
    {"kv-type", 0, FLAG_CHOICE, AT(kv_type), "f32|f16|bf16|int8|fp8", "f16", 0, 0, WITH_KERNELS,
     GROUP_MACHINE, "how keys and values are stored; pinned ones stay 16 bit with int8, fp8"},
    {"chunk", 0, FLAG_INT, AT(chunk), "N", "auto", 1, 1 << 14, WITH_ENGINE, GROUP_MACHINE,
     "most tokens of one step while a prompt is read, for which every session has room; auto: 256, "
     "on a GPU a quarter of the window, at most 1024, if it fits"},

    /* streaming */
    {"window", 'w', FLAG_INT, AT(window), "N", "auto", 1, INT_LIMIT, WITH_ENGINE, GROUP_STREAM,
     "tokens a query attends, pinned ones included; auto: the trained context, at most 4096"},
    {"sinks", 0, FLAG_INT, AT(sinks), "N", "auto", 0, INT_LIMIT, WITH_SESSION, GROUP_STREAM,
     "tokens pinned from the start; auto: 4, or BOS and the system prompt of a chat"},
    {"max-sinks", 0, FLAG_INT, AT(max_sinks), "N", "auto", 1, INT_LIMIT, WITH_ENGINE, GROUP_STREAM,
     "most tokens that can ever be pinned; auto: a quarter of the window"},
    {"mode", 0, FLAG_CHOICE, AT(mode), "streaming|dense|window|recompute", "streaming", 0, 0,
     WITH_SESSION, GROUP_STREAM,
     "streaming: runs for ever; dense: keep all, end when full; window: no sinks; recompute: "
     "re-encode the window for every token (slow)"},
    {"evict", 0, FLAG_CHOICE, AT(evict), "token|turn", "token", 0, 0, WITH_SESSION, GROUP_STREAM,
     "what leaves a full window: the oldest token, or the oldest turn of the chat"},

    /* choosing tokens */
    {"temp", 0, FLAG_REAL, AT(temp), "X", "0.7", 0, 100, WITH_REPLY, GROUP_SAMPLING,
     "temperature: 0 is greedy, 1 the model's own probabilities"},
    {"top-k", 0, FLAG_INT, AT(top_k), "N", "0", 0, INT_LIMIT, WITH_REPLY, GROUP_SAMPLING,
     "keep the N likeliest tokens; 0: off"},
    {"top-p", 0, FLAG_REAL, AT(top_p), "P", "0.95", 0, 1, WITH_REPLY, GROUP_SAMPLING,
     "keep the likeliest tokens that together have probability P; 1: off"},
    {"min-p", 0, FLAG_REAL, AT(min_p), "P", "0.05", 0, 1, WITH_REPLY, GROUP_SAMPLING,
     "keep tokens at least P times as likely as the likeliest; 0: off"},
    {"typical-p", 0, FLAG_REAL, AT(typical_p), "P", "1", 0, 1, WITH_REPLY, GROUP_SAMPLING,
     "keep the most typical tokens that together have probability P; 1: off"},
    {"greedy", 0, FLAG_SWITCH, AT(greedy), NULL, NULL, 0, 0, WITH_REPLY, GROUP_SAMPLING,
     "always the likeliest token; the same as --temp 0"},
    {"seed", 's', FLAG_LONG, AT(seed), "N", "random", 0, LONG_LIMIT, WITH_REPLY, GROUP_SAMPLING,
     "same seed, same text; a random one is printed with the statistics; with --load, only a seed "
     "that is given takes the place of the session's own"},
    {"repeat-penalty", 0, FLAG_REAL, AT(repeat_penalty), "X", "1", 0, 100, WITH_REPLY,
     GROUP_SAMPLING, "divide the logits of tokens seen lately by X; 1: off"},
    {"presence-penalty", 0, FLAG_REAL, AT(presence_penalty), "X", "0", -100, 100, WITH_REPLY,
     GROUP_SAMPLING, "subtract X from the logits of tokens seen lately; 0: off"},
    {"frequency-penalty", 0, FLAG_REAL, AT(frequency_penalty), "X", "0", -100, 100, WITH_REPLY,
     GROUP_SAMPLING, "subtract X for each time a token was seen lately; 0: off"},
    {"penalty-last", 0, FLAG_INT, AT(penalty_last), "N", "64", 1, 1024, WITH_REPLY,
     GROUP_SAMPLING, "how many tokens back the penalties look, at most 1024"},
    {"logit-bias", 0, FLAG_BIAS, AT(bias), "ID=X", NULL, -REAL_LIMIT, REAL_LIMIT, WITH_REPLY,
     GROUP_SAMPLING, "add X to the logit of token ID; may be given again"},
    {"stop", 0, FLAG_STOP, AT(stops), "TEXT", NULL, 0, 0, WITH_REPLY, GROUP_SAMPLING,
     "end before TEXT would appear; may be given again, at most 8 times"},
    {"ignore-eos", 0, FLAG_SWITCH, AT(ignore_eos), NULL, NULL, 0, 0, WITH_REPLY, GROUP_SAMPLING,
     "go on where the model would end"},
    {"no-loop-guard", 0, FLAG_SWITCH, AT(no_loop_guard), NULL, NULL, 0, 0, WITH_REPLY,
     GROUP_SAMPLING, "let a text run that only repeats itself"},

    /* output */
    {"json", 0, FLAG_SWITCH, AT(json), NULL, NULL, 0, 0, WITH_OUTPUT, GROUP_OUTPUT,
     "one JSON object on standard output instead of text"},
    {"quiet", 'q', FLAG_SWITCH, AT(quiet), NULL, NULL, 0, 0, WITH_OUTPUT, GROUP_OUTPUT,
     "no progress and no statistics on standard error"},
    {"help", 'h', FLAG_SWITCH, AT(help), NULL, NULL, 0, 0, WITH_OUTPUT | IN_HELP, GROUP_OUTPUT,
     "print this help"},
};
/* clang-format on */

const int N_FLAGS = (int)(sizeof FLAGS / sizeof FLAGS[0]);
