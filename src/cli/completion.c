/* completion.c - completion scripts for bash, zsh and fish, made from the tables.
 *
 * Each completes commands, the flags of the command at hand, the words of flags that take one of a
 * list, and files.
 *
 * SPDX-License-Identifier: MIT */
#include "cli/options.h"
#include "cli/term.h"

#include <string.h>

/* Text inside single quotes; colon: zsh wants colons and brackets escaped, too. */
static void quoted(const char *text, bool for_zsh) {
    out_print("'");
    for (; *text; text++) {
        if (*text == '\'') {
            out_print("'\\''");
        } else if (for_zsh && strchr(":[]\\", *text)) {
            out_print("\\%c", *text);
        } else {
            out_write(text, 1);
        }
    }
    out_print("'");
}

/* The words of "a|b|c" with spaces between. */
static void choice_words(const char *list) {
    char word[32];
    for (int i = 0; choice_get(list, i, word, sizeof word); i++) out_print(i ? " %s" : "%s", word);
}

static void command_words(void) {
    for (int i = 0; i < N_COMMANDS; i++) out_print(i ? " %s" : "%s", COMMANDS[i].name);
}

/* ------------------------------------------------------------------ bash */

/* The flags of one command, as a branch of a case. */
static void bash_flags(const command *c) {
    out_print("    %s) flags='", c->name);
    bool first = true;
    for (int i = 0; i < N_FLAGS; i++) {
        if (!(FLAGS[i].commands & c->bit)) continue;
        out_print(first ? "--%s" : " --%s", FLAGS[i].name);
        first = false;
    }
    out_print("' ;;\n");
}

/* What follows a flag: the same for all commands that have one of this name. */
static void bash_values(void) {
    for (int i = 0; i < N_FLAGS; i++) {
        const flag *f = &FLAGS[i];
        if (flag_find(f->name, strlen(f->name), ~0u) != f || !flag_has_value(f)) continue;
        out_print("    --%s", f->name);
        if (f->letter) out_print("|-%c", f->letter);
        out_print(") ");
        if (flag_has_words(f)) {
            out_print("mapfile -t COMPREPLY < <(compgen -W '");
            choice_words(f->meta);
            out_print("' -- \"$word\"); return ;;\n");
        } else if (f->kind == FLAG_PATH) {
            out_print("compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$word\"); "
                      "return ;;\n");
        } else {
            out_print("return ;;\n");
        }
    }
}

static void print_bash(void) {
    out_print("# weir(1) completion, made by `weir help --completion bash`\n"
              "_weir() {\n"
              "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} flags=\n"
              "    COMPREPLY=()\n"
              "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
              "        mapfile -t COMPREPLY < <(compgen -W '");
    command_words();
    out_print(" --help --version' -- \"$word\")\n"
              "        return\n"
              "    fi\n"
              "    case $before in\n");
    bash_values();
    out_print("    esac\n"
              "    case ${COMP_WORDS[1]} in\n");
    for (int i = 0; i < N_COMMANDS; i++) bash_flags(&COMMANDS[i]);
    out_print("    esac\n"
              "    if [[ $word == -* ]]; then\n"
              "        mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$word\")\n"
              "    elif [ \"${COMP_WORDS[1]}\" = help ]; then\n"
              "        mapfile -t COMPREPLY < <(compgen -W '");
    command_words();
    out_print("' -- \"$word\")\n"
              "    else\n"
              "        compopt -o filenames\n"
              "        mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
              "    fi\n"
              "}\n"
              "complete -F _weir weir\n");
}

/* ------------------------------------------------------------------ zsh */

/* "(-n --tokens)'{-n,--tokens}'[help]:tokens: ", as _arguments reads it. */
static void zsh_flag(const flag *f) {
    char names[64], spec[640], action[96] = "";
    if (f->letter) {
        snprintf(names, sizeof names, "(-%c --%s)'{-%c,--%s}'", f->letter, f->name, f->letter,
                 f->name);
    } else {
        snprintf(names, sizeof names, "--%s", f->name);
    }
    if (f->kind == FLAG_PATH) snprintf(action, sizeof action, ":file:_files");
    if (flag_has_words(f)) {
        size_t n = (size_t)snprintf(action, sizeof action, ":%s:(", f->name);
        for (const char *p = f->meta; *p && n + 2 < sizeof action; p++) {
            action[n++] = *p == '|' ? ' ' : *p;
        }
        snprintf(action + n, sizeof action - n, ")");
    }
    if (flag_has_value(f) && !action[0]) snprintf(action, sizeof action, ":%s: ", f->name);
    size_t n = 0;
    for (const char *p = f->help; *p && n + 4 < sizeof spec; p++) {
        if (strchr(":[]\\", *p)) spec[n++] = '\\';
        if (*p != '\'') spec[n++] = *p;
    }
    spec[n] = 0;
    out_print(" \\\n            '%s[%s]%s'", names, spec, action);
}

static void print_zsh(void) {
    out_print("#compdef weir\n"
              "# weir(1) completion, made by `weir help --completion zsh`\n"
              "_weir() {\n"
              "    local -a commands=(\n");
    for (int i = 0; i < N_COMMANDS; i++) {
        char line[256];
        snprintf(line, sizeof line, "%s:%s", COMMANDS[i].name, COMMANDS[i].summary);
        out_print("        ");
        quoted(line, false);
        out_print("\n");
    }
    out_print("    )\n"
              "    if (( CURRENT == 2 )); then\n"
              "        _describe command commands\n"
              "        return\n"
              "    fi\n"
              "    shift words\n"
              "    (( CURRENT-- ))\n"
              "    case $words[1] in\n");
    for (int i = 0; i < N_COMMANDS; i++) {
        const command *c = &COMMANDS[i];
        out_print("    %s)\n        _arguments -s", c->name);
        for (int k = 0; k < N_FLAGS; k++) {
            if (FLAGS[k].commands & c->bit) zsh_flag(&FLAGS[k]);
        }
        if (c->bit == IN_HELP) {
            out_print(" \\\n            '1:command:(");
            command_words();
            out_print(")' ;;\n");
        } else {
            out_print(" \\\n            '1:%s:_files' ;;\n", c->argument);
        }
    }
    out_print("    esac\n"
              "}\n"
              "if [ \"$funcstack[1]\" = _weir ]; then _weir \"$@\"; else compdef _weir weir; fi\n");
}

/* ------------------------------------------------------------------ fish */

/* One complete command; -x: a value and no files, -F: files. */
static void fish_flag(const command *c, const flag *f) {
    out_print("complete -c weir -n '__fish_seen_subcommand_from %s' -l %s", c->name, f->name);
    if (f->letter) out_print(" -s %c", f->letter);
    if (flag_has_words(f)) {
        out_print(" -x -a '");
        choice_words(f->meta);
        out_print("'");
    } else if (f->kind == FLAG_PATH) {
        out_print(" -r -F");
    } else if (flag_has_value(f)) {
        out_print(" -x");
    }
    out_print(" -d ");
    quoted(f->help, false);
    out_print("\n");
}

static void print_fish(void) {
    out_print("# weir(1) completion, made by `weir help --completion fish`\n");
    for (int i = 0; i < N_COMMANDS; i++) {
        out_print("complete -c weir -f -n __fish_use_subcommand -a %s -d ", COMMANDS[i].name);
        quoted(COMMANDS[i].summary, false);
        out_print("\n");
    }
    out_print("complete -c weir -f -n '__fish_seen_subcommand_from help' -a '");
    command_words();
    out_print("'\n");
    for (int i = 0; i < N_COMMANDS; i++) {
        for (int k = 0; k < N_FLAGS; k++) {
            if (FLAGS[k].commands & COMMANDS[i].bit) fish_flag(&COMMANDS[i], &FLAGS[k]);
        }
    }
}

bool completion_print(int shell) {
    switch (shell) {
    case 1: print_bash(); return true;
    case 2: print_zsh(); return true;
    case 3: print_fish(); return true;
    default: return false;
    }
}
