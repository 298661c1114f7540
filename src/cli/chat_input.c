/* chat_input.c - messages from a terminal with line editing, from a script, from a pipe.
 *
 * On a terminal libedit edits the line and keeps the history; the characters reach it through
 * read_key below, for two reasons.  Ctrl-C must give the line up, not the program.  And a text of
 * many lines that is pasted must be one message: the terminal brackets it (ESC [200~ ... ESC
 * [201~), its newlines are shown as U+2424 while it is edited and become newlines again when it is
 * sent.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cli/chat.h"

#include "base/status.h"
#include "base/unicode.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

enum {
    READ_SIZE = 1 << 16,
    HISTORY_SIZE = 1000,
    KEYS = 64,
    NEWLINE_MARK = 0x2424,
    TAB_MARK = 0x2409
};

struct chat_input {
    int fd;           /* a script, a pipe or the terminal */
    const char *name; /* for messages                     */
    buffer pending;   /* of a script or a pipe: what was read; lines before `at` are done */
    size_t at;
    bool ended;
    EditLine *edit; /* NULL: no terminal */
    History *history;
    char *history_path; /* heap; NULL: none */
    char prompt[8];
    uint8_t keys[KEYS]; /* read ahead or completed, and not yet given to libedit */
    int n_keys;
    bool pasting, canceled, was_empty;
};

/* ------------------------------------------------------------------ keys */

static volatile sig_atomic_t continued; /* we were stopped, and the shell has reset the terminal */

static void on_continue(int number) {
    (void)number;
    continued = 1;
}

static void restore_terminal(EditLine *edit) {
    continued = 0;
    el_set(edit, EL_PREP_TERM, 0);
    el_set(edit, EL_PREP_TERM, 1);
    el_set(edit, EL_REFRESH);
}

/* One byte of the terminal; -1: end, error or signal. */
static int read_byte(chat_input *in) {
    int is_ready;
    while ((is_ready = term_wait(STDIN_FILENO)) == 0) {
        if (continued) restore_terminal(in->edit);
    }
    uint8_t byte;
    return is_ready > 0 && read(STDIN_FILENO, &byte, 1) == 1 ? byte : -1;
}

static int next_byte(chat_input *in) {
    if (!in->n_keys) return read_byte(in);
    const int byte = in->keys[0];
    memmove(in->keys, in->keys + 1, (size_t)--in->n_keys);
    return byte;
}

/* After an ESC: true when the rest of the bracket follows, otherwise what was read is kept. */
static bool take_bracket(chat_input *in) {
    const char *const bracket = in->pasting ? "[201~" : "[200~";
    if (in->n_keys) return false; /* bytes that already were no bracket */
    for (int i = 0; bracket[i]; i++) {
        const int byte = read_byte(in);
        if (byte < 0) return false;
        in->keys[in->n_keys++] = (uint8_t)byte;
        if (byte != bracket[i]) return false;
    }
    in->n_keys = 0;
    in->pasting = !in->pasting;
    return true;
}

/* The rest of a character that begins with this byte. */
static wchar_t read_rest(chat_input *in, int first) {
    char text[UTF8_MAX] = {(char)first};
    size_t n = 1;
    uint32_t code;
    while (utf8_decode(&code, text, n), code == UTF8_PARTIAL && n < UTF8_MAX) {
        const int byte = next_byte(in);
        if (byte < 0) break;
        text[n++] = (char)byte;
    }
    return code <= 0x10ffff ? (wchar_t)code : (wchar_t)UTF8_REPLACEMENT;
}

/* Tab: the rest of a command's name, as if it were typed.  (A function of libedit's own, EL_ADDFN,
 * would leak its name.) */
static void complete(chat_input *in) {
    const LineInfo *line = el_line(in->edit);
    const size_t n = (size_t)(line->cursor - line->buffer);
    char rest[KEYS];
    if (n && line->buffer[0] == '/' && !memchr(line->buffer, ' ', n) && !in->n_keys &&
        chat_command_complete(line->buffer + 1, n - 1, rest, sizeof rest)) {
        in->n_keys = (int)strlen(rest);
        memcpy(in->keys, rest, (size_t)in->n_keys);
    } else {
        fputc('\a', stdout);
        fflush(stdout);
    }
}

/* libedit's source of characters: 1, or -1 when there is none. */
static int read_key(EditLine *edit, wchar_t *out) {
    chat_input *in;
    el_get(edit, EL_CLIENTDATA, &in);
    for (;;) {
        const bool is_fresh = !in->n_keys;
        const int byte = next_byte(in);
        if (byte < 0) {
            const LineInfo *line = el_line(edit);
            in->canceled = signal_caught() != 0;
            in->was_empty = line->lastchar == line->buffer;
            return -1;
        }
        if (byte == 0x1b && is_fresh && take_bracket(in)) continue;
        if (byte == '\t' && !in->pasting) {
            complete(in);
            continue;
        }
        if (!in->pasting) {
            *out = byte < 0x80 ? (wchar_t)byte : read_rest(in, byte);
            return 1;
        }
        if (byte == '\r' || byte == '\n') {
            *out = NEWLINE_MARK;
        } else if (byte == '\t') {
            *out = TAB_MARK;
        } else if (byte < 0x20 || byte == 0x7f) {
            continue; /* a control character in pasted text is no key that was pressed */
        } else {
            *out = byte < 0x80 ? (wchar_t)byte : read_rest(in, byte);
        }
        return 1;
    }
}

/* ------------------------------------------------------------------ the terminal */

static char *show_prompt(EditLine *edit) {
    chat_input *in;
    el_get(edit, EL_CLIENTDATA, &in);
    return in->prompt;
}

/* $XDG_STATE_HOME/weir/history or ~/.local/state/weir/history; its folders are made. */
static char *make_history_path(void) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char path[3072];
    if (state && state[0] == '/') {
        snprintf(path, sizeof path, "%s/weir/history", state);
    } else if (home && home[0] == '/') {
        snprintf(path, sizeof path, "%s/.local/state/weir/history", home);
    } else {
        return NULL;
    }
    if (strlen(path) == sizeof path - 1) return NULL; /* cut off */
    for (char *p = path + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(path, 0700); /* what fails shows when the file is written */
        *p = '/';
    }
    return strdup(path);
}

static bool open_terminal(chat_input *in) {
    HistEvent event;
    in->edit = el_init("weir", stdin, stdout, stderr);
    in->history = history_init();
    if (!in->edit || !in->history) return false;
    history(in->history, &event, H_SETSIZE, HISTORY_SIZE);
    history(in->history, &event, H_SETUNIQUE, 1);
    in->history_path = make_history_path();
    if (in->history_path) history(in->history, &event, H_LOAD, in->history_path);
    el_set(in->edit, EL_CLIENTDATA, in);
    el_set(in->edit, EL_EDITOR, "emacs");
    el_set(in->edit, EL_PROMPT, show_prompt);
    el_set(in->edit, EL_HIST, history, in->history);
    el_set(in->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(in->edit, NULL);
    el_set(in->edit, EL_GETCFN, read_key);
    struct sigaction action = {.sa_handler = on_continue};
    sigemptyset(&action.sa_mask);
    sigaction(SIGCONT, &action, NULL);
    return true;
}

/* Marks of pasted newlines and tabs become what they stand for. */
static bool append_marked(buffer *out, const char *text, size_t size) {
    while (size) {
        uint32_t code;
        const size_t n = utf8_decode(&code, text, size);
        const char *what = code == NEWLINE_MARK ? "\n" : code == TAB_MARK ? "\t" : NULL;
        if (!(what ? buffer_append(out, what, 1) : buffer_append(out, text, n))) return false;
        text += n;
        size -= n;
    }
    return true;
}

static weir_status out_of_memory(weir_error *err) {
    return weir_fail(err, WEIR_ERR_MEMORY, "out of memory while a line was read");
}

static input_result read_terminal(chat_input *in, buffer *line, weir_error *err) {
    int n = 0;
    const bool brackets = term_is(stdout);
    in->canceled = in->pasting = false;
    in->n_keys = 0;
    el_resize(in->edit);
    if (brackets) fputs("\033[?2004h", stdout);
    el_set(in->edit, EL_PREP_TERM, 1); /* before the prompt: no key is taken in the old mode */
    const char *text = el_gets(in->edit, &n);
    if (brackets) fputs("\033[?2004l", stdout);
    fflush(stdout);
    if (!text || n <= 0) {
        fputc('\n', stdout);
        if (!in->canceled) return INPUT_END;
        return signal_caught() == SIGINT ? INPUT_CANCEL : INPUT_SIGNAL;
    }
    HistEvent event;
    if (text[strspn(text, " \n")]) history(in->history, &event, H_ENTER, text);
    if (text[n - 1] == '\n') n--;
    if (append_marked(line, text, (size_t)n)) return INPUT_MESSAGE;
    out_of_memory(err);
    return INPUT_FAILED;
}

/* ------------------------------------------------------------------ scripts and pipes */

/* Makes pending hold a whole line, or all that is left of the file. */
static input_result fill(chat_input *in, size_t *size, weir_error *err) {
    for (;;) {
        char *const rest = in->pending.data ? in->pending.data + in->at : NULL;
        const size_t n = in->pending.size - in->at;
        const char *newline = n ? memchr(rest, '\n', n) : NULL;
        if (newline || (in->ended && n)) {
            *size = newline ? (size_t)(newline - rest) + 1 : n;
            return INPUT_MESSAGE;
        }
        if (in->ended) return INPUT_END;
        if (n) memmove(in->pending.data, rest, n);
        in->pending.size = n;
        in->at = 0;
        if (!buffer_reserve(&in->pending, READ_SIZE)) {
            out_of_memory(err);
            return INPUT_FAILED;
        }
        int is_ready;
        while ((is_ready = term_wait(in->fd)) == 0) continue;
        if (is_ready < 0) return INPUT_SIGNAL;
        const ssize_t got = read(in->fd, in->pending.data + n, READ_SIZE);
        if (got < 0) {
            weir_fail(err, WEIR_ERR_IO, "%s: cannot be read: %s", in->name, strerror(errno));
            return INPUT_FAILED;
        }
        in->pending.size += (size_t)got;
        in->ended = got == 0;
    }
}

static input_result read_file(chat_input *in, buffer *line, weir_error *err) {
    size_t size = 0;
    const input_result result = fill(in, &size, err);
    if (result != INPUT_MESSAGE) return result;
    char *text = in->pending.data + in->at;
    in->at += size;
    if (size && text[size - 1] == '\n') size--;
    if (size && text[size - 1] == '\r') size--;
    for (size_t i = 0; i < size; i++) {
        if (!text[i]) text[i] = ' '; /* a message is a C string */
    }
    if (utf8_repair(line, text, size)) return INPUT_MESSAGE;
    out_of_memory(err);
    return INPUT_FAILED;
}

/* ------------------------------------------------------------------ messages */

chat_input *chat_input_open(const char *path, weir_error *err) {
    chat_input *in = mem_alloc(sizeof *in);
    if (!in) {
        out_of_memory(err);
        return NULL;
    }
    const bool is_file = path && strcmp(path, "-") != 0;
    in->name = is_file ? path : "standard input";
    in->fd = is_file ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    bool ok = in->fd >= 0;
    if (!ok) {
        weir_fail(err, WEIR_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    } else if (!path && isatty(STDIN_FILENO) && term_is(stdout)) {
        ok = open_terminal(in);
        if (!ok) weir_fail(err, WEIR_ERR_IO, "the terminal cannot be used: %s", strerror(errno));
    }
    if (ok) return in;
    chat_input_close(in);
    return NULL;
}

void chat_input_close(chat_input *in) {
    if (!in) return;
    if (in->history && in->history_path) {
        HistEvent event;
        history(in->history, &event, H_SAVE, in->history_path);
    }
    if (in->edit) el_end(in->edit);
    if (in->history) history_end(in->history);
    if (in->fd > STDIN_FILENO) close(in->fd);
    free(in->history_path);
    buffer_clear(&in->pending);
    mem_free(in);
}

bool chat_input_is_terminal(const chat_input *in) {
    return in->edit != NULL;
}

bool chat_input_was_empty(const chat_input *in) {
    return in->was_empty;
}

static input_result read_line(chat_input *in, const char *prompt, buffer *line, weir_error *err) {
    snprintf(in->prompt, sizeof in->prompt, "%s", prompt);
    return in->edit ? read_terminal(in, line, err) : read_file(in, line, err);
}

static bool is_blank(const buffer *b) {
    for (size_t i = 0; i < b->size; i++) {
        if (!strchr(" \t\r\n", b->data[i])) return false;
    }
    return true;
}

static bool ends_with(const buffer *b, const char *tail) {
    const size_t n = strlen(tail);
    return b->size >= n && memcmp(b->data + b->size - n, tail, n) == 0;
}

/* Between two """: text holds the first line, without its marks. */
static input_result read_block(chat_input *in, buffer *text, weir_error *err) {
    while (!ends_with(text, "\"\"\"")) {
        if (text->size && !buffer_append(text, "\n", 1)) {
            out_of_memory(err);
            return INPUT_FAILED;
        }
        const input_result result = read_line(in, ". ", text, err);
        if (result == INPUT_END && !is_blank(text)) return INPUT_MESSAGE; /* the file ends */
        if (result != INPUT_MESSAGE) return result;
    }
    text->size -= 3;
    text->data[text->size] = 0;
    return INPUT_MESSAGE;
}

input_result chat_input_next(chat_input *in, buffer *text, weir_error *err) {
    for (;;) {
        text->size = 0;
        input_result result = read_line(in, "> ", text, err);
        if (result != INPUT_MESSAGE) return result;
        if (text->size >= 3 && memcmp(text->data, "\"\"\"", 3) == 0) {
            text->size -= 3;
            memmove(text->data, text->data + 3, text->size);
            result = read_block(in, text, err);
        }
        while (result == INPUT_MESSAGE && ends_with(text, "\\")) {
            text->data[text->size - 1] = '\n';
            result = read_line(in, ". ", text, err);
            if (result == INPUT_END) result = INPUT_MESSAGE;
        }
        if (result != INPUT_MESSAGE) return result;
        if (is_blank(text)) continue;
        text->data[text->size] = 0;
        return INPUT_MESSAGE;
    }
}
