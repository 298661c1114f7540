/* cmd_help.c - weir help, and what is said about a word that is no command.
 *
 * SPDX-License-Identifier: MIT */
#include "cli/options.h"
#include "cli/term.h"

/* weir WORD, where WORD is no command. */
int command_unknown(const char *word) {
    const char *near = command_nearest(word);
    if (word[0] == '-') {
        complain(NULL,
                 "\"%s\" comes before the command; write weir COMMAND [options], `weir help` "
                 "lists the commands",
                 word);
    } else if (near) {
        complain(NULL, "there is no command \"%s\"; did you mean `weir %s`?", word, near);
    } else {
        complain(NULL, "there is no command \"%s\"; `weir help` lists all", word);
    }
    return EXIT_USAGE;
}

int cmd_help(const options *o) {
    if (o->man) {
        man_print();
    } else if (o->completion) {
        completion_print(o->completion);
    } else if (o->model) {
        const command *c = command_find(o->model);
        if (!c) return command_unknown(o->model);
        help_print(c);
    } else {
        help_print_overview(false);
    }
    return EXIT_OK;
}
