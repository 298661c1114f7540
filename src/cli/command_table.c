/* command_table.c - every command, once: how it is called, what it does, examples.
 *
 * SPDX-License-Identifier: MIT */
#include "cli/options.h"

/* clang-format off */
const command COMMANDS[] = {
    {
        "chat", IN_CHAT, "MODEL", ARGUMENT_OPTIONAL, "[MODEL] [options]",
        "talk with a model, for as long as you like",
        "Talks with a model in the words of its chat template. The conversation never fills up: "
        "the system prompt stays, what is older than the window flows out, and the line under "
        "each reply says how much has.\n\n"
        "At the prompt, a line that ends in a backslash goes on in the next one, and \"\"\" opens "
        "and closes a message of many lines. A line that begins with / is a command; /help lists "
        "them. Ctrl-C stops the reply and keeps the session; Ctrl-D quits.\n\n"
        "Without a terminal, each line of standard input is a message. With --json each reply is "
        "one line with a JSON object.",
        {
            {"weir chat", "talk to the model inside weir"},
            {"weir chat models/qwen2.5-7b --window 4096", "a Hugging Face folder"},
            {"weir chat model.gguf --system \"Answer in French.\"", "with a system prompt"},
            {"weir chat model.gguf --load talk.weir --save talk.weir", "go on tomorrow"},
            {"weir chat model.gguf --script questions.txt", "ask what a file asks"},
        },
        cmd_chat,
    },
    {
        "generate", IN_GENERATE, "MODEL", ARGUMENT_OPTIONAL, "[MODEL] [options]",
        "go on with a text, without end if you like",
        "Prints the continuation of a prompt as it comes. The prompt is -p TEXT, --file FILE or "
        "standard input; no chat template is used. Statistics follow on standard error.\n\n"
        "Ctrl-C ends it cleanly: the statistics are printed, --save writes the session, and the "
        "exit status is 130.",
        {
            {"weir generate model.gguf -p \"Once upon a time\"", "256 tokens of a story"},
            {"weir generate model.gguf -p \"Once\" -n -1 --ignore-eos", "a story without end"},
            {"weir generate model.gguf --greedy --seed 1 < prompt.txt", "the same text each time"},
            {"weir generate model.gguf -p \"Call me\" -n 50 --save s.weir", "keep the session"},
            {"weir generate model.gguf --load s.weir -n 50", "and go on from it"},
        },
        cmd_generate,
    },
    {
        "perplexity", IN_PERPLEXITY, "MODEL", ARGUMENT_OPTIONAL, "[MODEL] --text FILE [options]",
        "how well a model predicts a text, however long",
        "Reads a text of any length and reports how well each token was predicted: perplexity "
        "over the whole text and over each tenth of it, bits per byte, and the speed. Tokens are "
        "read in parallel and see exactly what they would see one at a time.",
        {
            {"weir perplexity model.gguf --text book.txt", "the whole book"},
            {"weir perplexity model.gguf --text book.txt --mode window", "without sinks"},
            {"weir perplexity model.gguf --text book.txt --mode recompute --stride 50",
             "the gold standard, sampled"},
            {"weir perplexity model.gguf --text book.txt --plot ppl.svg", "with a plot"},
            {"weir perplexity model.gguf --token-ids ids.txt --logits out.npy", "raw logits"},
        },
        cmd_perplexity,
    },
    {
        "bench", IN_BENCH, "MODEL", ARGUMENT_OPTIONAL, "[MODEL] [options]",
        "how fast a model runs here, beside what the memory allows",
        "Times reading a prompt, decoding with the window full and, with --sessions, decoding "
        "many sessions in one step, after random tokens. Each figure is the median of the "
        "repetitions, and p99 is the slowest of a hundred steps. The read bandwidth of the memory, "
        "and on a GPU the rate of its matrix units, are measured before and after, in the same "
        "run; decoding and reading are shown as shares of the faster of the two.",
        {
            {"weir bench model.gguf", "prefill 512, decode 64 with the window full"},
            {"weir bench model.gguf --window 2048 --threads 2 --json", "for a script"},
            {"weir bench model.gguf --sessions 16 --depth 512", "16 sessions in one step"},
            {"weir bench model.gguf --at 10000000", "far along a stream"},
        },
        cmd_bench,
    },
    {
        "info", IN_INFO, "MODEL", ARGUMENT_OPTIONAL, "[MODEL] [options]",
        "what a model is and what it costs",
        "Loads a model and prints its architecture and sizes, the bytes its weights, its plan and "
        "each session take, the bytes read for one token, and how many sessions fit in the "
        "memory of this machine. Of an engine file it says what it was built for.",
        {
            {"weir info model.gguf", "sizes and costs"},
            {"weir info model.gguf --window 8192 --kv-type int8", "the cost of a longer window"},
            {"weir info model.gguf --plan", "how it is computed, step by step"},
        },
        cmd_info,
    },
    {
        "build", IN_BUILD, "MODEL", ARGUMENT_OPTIONAL, "[MODEL] -o FILE [options]",
        "compile a model's GPU kernels into an engine file",
        "Compiles the kernels that a model runs on a GPU and writes them to a file, so that a "
        "machine with nothing but the driver runs it: pass the file with --engine there. Kernels "
        "are otherwise compiled when a model is first opened, which wants NVRTC, and kept in "
        "~/.cache/weir.\n\n"
        "No GPU is needed when --target names what to build for. The file fits every model with "
        "the same kinds of weights, activation, and size and sharing of heads, and any window, "
        "chunk and number of sessions. It does not hold the weights. A file that does not fit the "
        "model, the options, the GPU or this version of weir is refused with the reason; nothing "
        "else is tried.",
        {
            {"weir build model.gguf -o model.engine", "for the GPU of this machine"},
            {"weir build model.gguf -o model.engine --target sm_80,sm_90a", "for A100 and H100"},
            {"weir chat model.gguf --engine model.engine", "run with it"},
            {"weir info model.engine", "what is in it"},
        },
        cmd_build,
    },
    {
        "tokenize", IN_TOKENIZE, "FILE", ARGUMENT_REQUIRED, "FILE [options] < TEXT",
        "text to token ids and back",
        "Reads text on standard input and prints its token ids on one line. FILE is a model's "
        "folder, a tokenizer.json, or a .gguf, also one that holds a vocabulary only.",
        {
            {"echo \"Hello, world\" | weir tokenize models/qwen2.5-7b", "ids"},
            {"weir tokenize tokenizer.json --no-bos < book.txt > ids.txt", "a whole book"},
            {"weir tokenize model.gguf --decode < ids.txt", "and back"},
        },
        cmd_tokenize,
    },
    {
        "help", IN_HELP, "COMMAND", ARGUMENT_OPTIONAL, "[COMMAND] [options]",
        "explain a command; print the man page or shell completions",
        "Prints what a command does and takes, or all commands. The man page and the completion "
        "scripts are made from the same tables that the options are read with.",
        {
            {"weir help chat", "the same as weir chat --help"},
            {"weir help --man > weir.1", "the man page"},
            {"weir help --completion bash > /etc/bash_completion.d/weir", "completion"},
        },
        cmd_help,
    },
};
/* clang-format on */

const int N_COMMANDS = (int)(sizeof COMMANDS / sizeof COMMANDS[0]);
