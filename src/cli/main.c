/* main.c - weir COMMAND: finds the command, reads its line, runs it.
 *
 * The command line uses the engine through weir/weir.h only, as any program would; from inside the
 * project it takes nothing but src/base.  Each command lies in its own file, cmd_NAME.c.
 *
 * SPDX-License-Identifier: MIT */
#include "cli/options.h"
#include "cli/term.h"

#include <string.h>

static int run_command(const command *c, int argc, char *const *argv) {
    options o;
    int status = EXIT_USAGE;
    options_init(&o, c);
    if (options_parse(&o, c, argc, argv)) {
        if (o.help) {
            help_print(c);
            status = EXIT_OK;
        } else {
            status = c->run(&o);
        }
    }
    options_clear(&o);
    return status;
}

int main(int argc, char **argv) {
    term_init();
    if (argc < 2) {
        help_print_overview(true);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    int status = EXIT_OK;
    const command *c = command_find(word);
    if (c) {
        status = run_command(c, argc - 2, argv + 2);
    } else if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        out_print("weir %s\n", weir_version());
    } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        help_print_overview(false);
    } else {
        status = command_unknown(word);
    }
    return term_finish(c ? c->name : NULL, status);
}
