/* help.c - weir help and weir COMMAND --help, wrapped to the terminal.
 *
 * SPDX-License-Identifier: MIT */
#include "cli/options.h"
#include "cli/term.h"

#include <stdio.h>
#include <string.h>

enum { LEFT = 27, WIDEST = 96 };

static int columns(FILE *f) {
    const int width = term_width(f);
    return width < 50 ? 50 : width > WIDEST ? WIDEST : width;
}

/* Writes text from column `at` on, wrapped, later lines indented by `indent`; ends the line. */
static void wrap(FILE *f, const char *text, int at, int indent) {
    const int width = columns(f);
    while (*text) {
        const size_t n = strcspn(text, " \n");
        if (at > indent && at + 1 + (int)n > width) {
            fprintf(f, "\n%*s", indent, "");
            at = indent;
        } else if (at > indent) {
            fputc(' ', f);
            at++;
        }
        fwrite(text, 1, n, f);
        at += (int)n;
        text += n;
        if (*text == '\n') { /* an empty line begins a paragraph */
            fprintf(f, "\n\n%*s", indent, "");
            at = indent;
        }
        text += strspn(text, " \n");
    }
    fputc('\n', f);
}

static void title(FILE *f, const char *text) {
    fprintf(f, "\n%s%s%s\n", term_set(f, STYLE_BOLD), text, term_set(f, STYLE_PLAIN));
}

/* "-n, --tokens N" */
static int flag_left(char *out, size_t size, const flag *f) {
    char letter[] = "    ";
    if (f->letter) snprintf(letter, sizeof letter, "-%c, ", f->letter);
    return snprintf(out, size, "  %s--%s%s%s", letter, f->name, f->meta ? " " : "",
                    f->meta ? f->meta : "");
}

/* The help begins in column LEFT, on the next line when the flag is longer than that. */
static void print_flag(FILE *out, const flag *f) {
    char left[96], right[512];
    int n = flag_left(left, sizeof left, f);
    snprintf(right, sizeof right, f->fallback ? "%s [%s]" : "%s", f->help, f->fallback);
    fputs(left, out);
    if (n + 2 > LEFT) {
        fputc('\n', out);
        n = 0;
    }
    fprintf(out, "%*s", LEFT - n, "");
    wrap(out, right, LEFT, LEFT);
}

/* Flags stand in their groups, groups in the order of the enum, what is special first. */
void help_print(const command *c) {
    FILE *f = stdout;
    fprintf(f, "%sweir %s%s %s\n\n", term_set(f, STYLE_BOLD), c->name, term_set(f, STYLE_PLAIN),
            c->usage);
    wrap(f, c->description, 0, 0);
    if (c->bit != IN_TOKENIZE && c->bit != IN_HELP) {
        fputc('\n', f);
        wrap(f,
             "MODEL is a Hugging Face folder, a .safetensors or a .gguf file; without it, the "
             "model inside weir.",
             0, 0);
    }
    title(f, "Examples");
    for (int i = 0; i < MAX_EXAMPLES && c->examples[i].line; i++) {
        fprintf(f, "  %s\n  %s    %s%s\n", c->examples[i].line, term_set(f, STYLE_DIM),
                c->examples[i].what, term_set(f, STYLE_PLAIN));
    }
    for (int g = 0; g < GROUP_COUNT; g++) {
        bool any = false;
        for (int i = 0; i < N_FLAGS; i++) {
            if (FLAGS[i].group != (flag_group)g || !(FLAGS[i].commands & c->bit)) continue;
            if (!any) title(f, GROUP_TITLES[g]);
            any = true;
            print_flag(f, &FLAGS[i]);
        }
    }
    if (c->bit == IN_HELP) return;
    fputs("\nA default stands in [brackets].\n", f);
}

void help_print_overview(bool to_stderr) {
    FILE *f = to_stderr ? stderr : stdout;
    fprintf(f, "%sweir%s %s - endless conversations with a language model\n\n",
            term_set(f, STYLE_BOLD), term_set(f, STYLE_PLAIN), weir_version());
    fputs("  weir COMMAND [options]\n\n", f);
    for (int i = 0; i < N_COMMANDS; i++) {
        fprintf(f, "  %s%-11s%s ", term_set(f, STYLE_BOLD), COMMANDS[i].name,
                term_set(f, STYLE_PLAIN));
        wrap(f, COMMANDS[i].summary, 14, 14);
    }
    fputs("\n`weir COMMAND --help` explains a command, with examples.\n"
          "`weir --version` prints the version.\n",
          f);
}
