/* test_file.c - files are mapped whole, and written whole or not at all.
 *
 * Every test works in a fresh folder under BINARY_DIR, which is removed with all that is in it.
 *
 * SPDX-License-Identifier: MIT */
#define _XOPEN_SOURCE 700
#include "base/file.h"

#include "base/arena.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATH_BYTES = 1024 };

typedef struct folder {
    char path[PATH_BYTES];
    char file[PATH_BYTES]; /* the path last made by in() */
} folder;

static int make_folder(void **state) {
    folder *f = calloc(1, sizeof *f);
    snprintf(f->path, sizeof f->path, "%s/test_file.XXXXXX", BINARY_DIR);
    *state = f;
    return mkdtemp(f->path) ? 0 : -1;
}

static const char *in(folder *f, const char *name) {
    snprintf(f->file, sizeof f->file, "%.500s/%.500s", f->path, name);
    return f->file;
}

static int count_files(folder *f, bool remove_them) {
    DIR *d = opendir(f->path);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.' && (!e->d_name[1] || e->d_name[1] == '.')) continue;
        n++;
        if (remove_them && unlink(in(f, e->d_name)) != 0) rmdir(in(f, e->d_name));
    }
    closedir(d);
    return n;
}

static int remove_folder(void **state) {
    folder *f = *state;
    count_files(f, true);
    const int result = rmdir(f->path);
    free(f);
    return result;
}

static void write_whole(const char *path, const char *text) {
    file_writer w;
    assert_int_equal(file_create(&w, path, NULL), WEIR_OK);
    assert_int_equal(file_write(&w, text, strlen(text), NULL), WEIR_OK);
    assert_int_equal(file_commit(&w, NULL), WEIR_OK);
}

static void assert_holds(const char *path, const char *text) {
    mapped_file m;
    assert_int_equal(file_map(&m, path, NULL), WEIR_OK);
    assert_int_equal(m.size, strlen(text));
    if (m.size) assert_memory_equal(m.data, text, m.size);
    file_unmap(&m);
    assert_null(m.data);
}

/* ---- mapping */

static void what_was_written_is_mapped(void **state) {
    const char *path = in(*state, "plain");
    write_whole(path, "some text");
    assert_holds(path, "some text");
    assert_true(file_exists(path));
    assert_false(file_is_folder(path));
}

static void an_empty_file_maps_to_nothing(void **state) {
    const char *path = in(*state, "empty");
    write_whole(path, "");
    assert_holds(path, "");
}

static void folders_pipes_and_devices_are_refused_by_name(void **state) {
    folder *f = *state;
    const char *pipe = in(f, "pipe");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    const char *const paths[] = {f->path, pipe, "/dev/null"};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        mapped_file m;
        weir_error err;
        char want[2 * PATH_BYTES];
        snprintf(want, sizeof want, "%s: is not a regular file", paths[i]);
        assert_int_equal(file_map(&m, paths[i], &err), WEIR_ERR_IO);
        assert_string_equal(err.message, want);
        assert_null(m.data);
    }
    assert_true(file_is_folder(f->path));
}

static void a_missing_file_is_named(void **state) {
    mapped_file m;
    weir_error err;
    assert_int_equal(file_map(&m, in(*state, "nothing"), &err), WEIR_ERR_IO);
    assert_non_null(strstr(err.message, "/nothing: cannot open: No such file"));
    assert_int_equal(file_map(&m, "", &err), WEIR_ERR_IO);
    assert_false(file_exists(""));
    file_unmap(&m); /* nothing to do */
}

static void hostile_names_stay_on_one_line(void **state) {
    mapped_file m;
    weir_error err;
    assert_int_equal(file_map(&m, in(*state, "a\nb\x1b[2J\t\x7f"), &err), WEIR_ERR_IO);
    for (const char *c = err.message; *c; c++) assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
    assert_non_null(strstr(err.message, "/a?b?[2J??: cannot open"));

    static const char *const names[] = {"%s%n%d", "-n", "a b'\"$(x)", "\xff\xfe", "#?*"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const char *path = in(*state, names[i]);
        write_whole(path, names[i]);
        assert_holds(path, names[i]);
    }
    assert_int_equal(count_files(*state, false), COUNT_OF(names));
}

static void a_released_range_reads_the_same_again(void **state) {
    const char *path = in(*state, "large");
    enum { SIZE = 100000 };
    char *text = calloc(1, SIZE + 1);
    for (int i = 0; i < SIZE; i++) text[i] = (char)('a' + i % 23);
    write_whole(path, text);
    mapped_file m;
    assert_int_equal(file_map(&m, path, NULL), WEIR_OK);
    file_release(&m, m.data, m.size);
    file_release(&m, m.data + 5000, 20000);
    file_release(&m, m.data + SIZE, 0);
    file_release(&m, m.data + SIZE - 1, SIZE_MAX / 2); /* past the end */
    file_release(&m, text, 100);                       /* not of this file */
    file_release(&(mapped_file){0}, text, 100);
    assert_memory_equal(m.data, text, SIZE);
    file_unmap(&m);
    free(text);
}

/* ---- writing */

static void a_file_appears_only_when_committed(void **state) {
    folder *f = *state;
    const char *path = in(f, "target");
    file_writer w;
    write_whole(path, "old");
    assert_int_equal(file_create(&w, path, NULL), WEIR_OK);
    assert_int_equal(file_write(&w, "ne", 2, NULL), WEIR_OK);
    assert_holds(path, "old");
    assert_int_equal(file_write(&w, "w", 1, NULL), WEIR_OK);
    assert_int_equal(file_commit(&w, NULL), WEIR_OK);
    assert_holds(path, "new");
    assert_int_equal(count_files(f, false), 1);
}

static void an_abandoned_file_leaves_nothing(void **state) {
    folder *f = *state;
    const char *path = in(f, "target");
    file_writer w;
    write_whole(path, "old");
    assert_int_equal(file_create(&w, path, NULL), WEIR_OK);
    assert_int_equal(file_write(&w, "half of it", 10, NULL), WEIR_OK);
    file_abandon(&w);
    file_abandon(&w);
    file_abandon(&(file_writer){0});
    assert_holds(path, "old");
    assert_int_equal(count_files(f, false), 1);
}

static void two_writers_of_one_file_do_not_mix(void **state) {
    folder *f = *state;
    const char *path = in(f, "target");
    file_writer a, b;
    assert_int_equal(file_create(&a, path, NULL), WEIR_OK);
    assert_int_equal(file_create(&b, path, NULL), WEIR_OK);
    assert_int_equal(file_write(&a, "aaa", 3, NULL), WEIR_OK);
    assert_int_equal(file_write(&b, "bb", 2, NULL), WEIR_OK);
    assert_int_equal(file_commit(&b, NULL), WEIR_OK);
    assert_holds(path, "bb");
    assert_int_equal(file_commit(&a, NULL), WEIR_OK);
    assert_holds(path, "aaa");
    assert_int_equal(count_files(f, false), 1);
}

static void the_umask_decides_who_may_read(void **state) {
    const char *path = in(*state, "target");
    struct stat st;
    const mode_t before = umask(027);
    write_whole(path, "x");
    umask(before);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
}

static void a_file_that_is_replaced_keeps_its_permissions(void **state) {
    const char *path = in(*state, "target");
    struct stat st;
    write_whole(path, "private");
    assert_int_equal(chmod(path, 0600), 0);
    write_whole(path, "still");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void targets_that_are_no_files_are_refused(void **state) {
    folder *f = *state;
    file_writer w;
    weir_error err;
    assert_int_equal(file_create(&w, f->path, &err), WEIR_ERR_IO);
    assert_non_null(strstr(err.message, ": exists and is not a regular file"));
    assert_int_equal(file_create(&w, "/dev/null", &err), WEIR_ERR_IO);
    assert_string_equal(err.message, "/dev/null: exists and is not a regular file");
    assert_int_equal(file_create(&w, in(f, "no/such/folder"), &err), WEIR_ERR_IO);
    assert_non_null(strstr(err.message, "folder: cannot create a file beside it: No such file"));
    assert_int_equal(file_create(&w, "", &err), WEIR_ERR_IO);
    assert_string_equal(err.message, "an empty file name cannot be written");
    file_abandon(&w);
    assert_int_equal(count_files(f, false), 0);
}

static void a_target_that_became_a_folder_is_left_alone(void **state) {
    folder *f = *state;
    const char *path = in(f, "target");
    file_writer w;
    weir_error err;
    assert_int_equal(file_create(&w, path, NULL), WEIR_OK);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(file_commit(&w, &err), WEIR_ERR_IO);
    assert_non_null(strstr(err.message, "/target: cannot write: Is a directory"));
    assert_int_equal(count_files(f, false), 1);
}

static void a_full_disk_is_reported(void **state) {
    (void)state;
    const int full = open("/dev/full", O_WRONLY);
    if (full < 0) skip();
    file_writer w = {.fd = full, .target = mem_alloc(8), .temporary = mem_alloc(8)};
    weir_error err;
    strcpy(w.target, "session");
    assert_int_equal(file_write(&w, "x", 1, &err), WEIR_ERR_IO);
    assert_string_equal(err.message, "session: cannot write: No space left on device");
    file_abandon(&w);
}

static void a_large_write_arrives_whole(void **state) {
    const char *path = in(*state, "target");
    const size_t size = (size_t)48 << 20;
    uint8_t *data = mem_map(size);
    for (size_t i = 0; i < size; i += 4096) data[i] = (uint8_t)(i >> 12);
    file_writer w;
    mapped_file m;
    assert_int_equal(file_create(&w, path, NULL), WEIR_OK);
    assert_int_equal(file_write(&w, data, size, NULL), WEIR_OK);
    assert_int_equal(file_commit(&w, NULL), WEIR_OK);
    assert_int_equal(file_map(&m, path, NULL), WEIR_OK);
    assert_int_equal(m.size, size);
    assert_memory_equal(m.data, data, size);
    file_unmap(&m);
    mem_unmap(data, size);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_was_written_is_mapped),
        TEST(an_empty_file_maps_to_nothing),
        TEST(folders_pipes_and_devices_are_refused_by_name),
        TEST(a_missing_file_is_named),
        TEST(hostile_names_stay_on_one_line),
        TEST(a_released_range_reads_the_same_again),
        TEST(a_file_appears_only_when_committed),
        TEST(an_abandoned_file_leaves_nothing),
        TEST(two_writers_of_one_file_do_not_mix),
        TEST(the_umask_decides_who_may_read),
        TEST(a_file_that_is_replaced_keeps_its_permissions),
        TEST(targets_that_are_no_files_are_refused),
        TEST(a_target_that_became_a_folder_is_left_alone),
        TEST(a_full_disk_is_reported),
        TEST(a_large_write_arrives_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
