/* test_arena.c - memory is zeroed, aligned, apart, counted, and overflow is out-of-memory.
 *
 * SPDX-License-Identifier: MIT */
#include "base/arena.h"

#include "base/compiler.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static bool is_zero(const void *p, size_t bytes) {
    const unsigned char *c = p;
    for (size_t i = 0; i < bytes; i++) {
        if (c[i]) return false;
    }
    return true;
}

/* ---- sizes */

static void sizes_that_overflow_are_size_max(void **state) {
    (void)state;
    const size_t half = SIZE_MAX / 2 + 1;
    assert_true(size_mul(0, SIZE_MAX) == 0 && size_mul(SIZE_MAX, 0) == 0);
    assert_true(size_mul(1, SIZE_MAX) == SIZE_MAX && size_mul(3, 5) == 15);
    assert_true(size_mul(half, 2) == SIZE_MAX && size_mul(2, half) == SIZE_MAX);
    assert_true(size_mul(SIZE_MAX, SIZE_MAX) == SIZE_MAX);
    assert_true(size_add(half, half) == SIZE_MAX && size_add(SIZE_MAX, 1) == SIZE_MAX);
    assert_true(size_add(SIZE_MAX - 1, 1) == SIZE_MAX && size_add(3, 5) == 8);
}

static void an_overflowing_size_is_never_allocated(void **state) {
    (void)state;
    arena *a = arena_new();
    const uint64_t before = mem_count();
    assert_null(mem_alloc(SIZE_MAX));
    assert_null(mem_array(SIZE_MAX / 2, 3));
    assert_null(mem_map(SIZE_MAX));
    assert_null(mem_map(SIZE_MAX - (1 << 20)));
    assert_null(arena_array(a, SIZE_MAX / 4, 8));
    assert_null(arena_alloc(a, SIZE_MAX, 64));
    assert_null(arena_alloc(a, SIZE_MAX - 8, 64));
    assert_null(arena_copy(a, "", SIZE_MAX));
    char *p = mem_alloc(4);
    assert_null(mem_grow(p, SIZE_MAX / 2, 3));
    p[3] = 1; /* p is kept */
    mem_free(p);
    assert_int_equal(mem_count(), before + 1);
    arena_free(a);
}

/* ---- heap and pages */

static void heap_memory_is_zeroed_and_counted(void **state) {
    (void)state;
    const uint64_t before = mem_count();
    char *a = mem_alloc(1000), *b = mem_array(10, 100), *none = mem_alloc(0);
    assert_int_equal(mem_count(), before + 3);
    assert_true(is_zero(a, 1000) && is_zero(b, 1000));
    assert_non_null(none);
    memset(a, 7, 1000);
    a = mem_grow(a, 500, 4);
    assert_int_equal(mem_count(), before + 4);
    assert_true(a[0] == 7 && a[999] == 7);
    mem_free(a);
    mem_free(b);
    mem_free(none);
    mem_free(NULL);
    assert_int_equal(mem_count(), before + 4);
}

static void mapped_pages_are_zeroed_and_aligned(void **state) {
    (void)state;
    const size_t sizes[] = {1, 4096, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 5 << 20};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        unsigned char *p = mem_map(sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % (2 << 20), 0);
        assert_true(is_zero(p, sizes[i]));
        p[0] = p[sizes[i] - 1] = 1;
        mem_unmap(p, sizes[i]);
    }
    mem_unmap(NULL, 5);
}

/* ---- arena */

static void arena_memory_is_zeroed_aligned_and_apart(void **state) {
    (void)state;
    enum { PIECES = 4000 };
    static unsigned char *pieces[PIECES];
    static size_t sizes[PIECES];
    arena *a = arena_new();
    rng r = {1};
    for (int i = 0; i < PIECES; i++) {
        const size_t align = (size_t)1 << rng_next(&r) % 9;
        sizes[i] = rng_next(&r) % (i % 100 == 0 ? 200000 : 300);
        pieces[i] = arena_alloc(a, sizes[i], align);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % align, 0);
        assert_true(is_zero(pieces[i], sizes[i]));
        memset(pieces[i], i % 255 + 1, sizes[i]);
    }
    for (int i = 0; i < PIECES; i++) {
        for (size_t j = 0; j < sizes[i]; j++) assert_int_equal(pieces[i][j], i % 255 + 1);
    }
    arena_free(a);
    arena_free(NULL);
}

static void small_pieces_share_blocks(void **state) {
    (void)state;
    arena *a = arena_new();
    const uint64_t before = mem_count();
    for (int i = 0; i < 1000; i++) assert_non_null(ARENA_NEW(a, uint64_t));
    assert_int_equal(mem_count(), before + 1);
    arena_free(a);
}

static void copies_are_terminated(void **state) {
    (void)state;
    arena *a = arena_new();
    assert_string_equal(arena_copy(a, "hello, world", 5), "hello");
    assert_string_equal(arena_copy(a, "", 0), "");
    assert_string_equal(arena_copy(a, NULL, 0), "");
    const char *inside = arena_copy(a, "a\0b", 3);
    assert_memory_equal(inside, "a\0b", 4);
    const double *numbers = ARENA_ARRAY(a, double, 7);
    assert_true(is_zero(numbers, 7 * sizeof *numbers));
    arena_free(a);
}

/* ---- buffer */

static void a_buffer_grows_and_stays_terminated(void **state) {
    (void)state;
    buffer b = {0};
    for (int i = 0; i < 10000; i++) {
        assert_true(buffer_append(&b, "0123456789" + i % 10, 1));
        assert_int_equal(b.data[b.size], 0);
    }
    assert_int_equal(b.size, 10000);
    for (int i = 0; i < 10000; i++) assert_int_equal(b.data[i], '0' + i % 10);
    buffer_clear(&b);
    assert_true(!b.data && !b.size && !b.capacity);
    buffer_clear(&b);
}

static void appending_costs_few_allocations(void **state) {
    (void)state;
    buffer b = {0};
    const uint64_t before = mem_count();
    for (int i = 0; i < 1000000; i++) assert_true(buffer_append(&b, "x", 1));
    assert_in_range(mem_count() - before, 1, 25);
    buffer_clear(&b);
}

static void what_was_reserved_is_not_allocated_again(void **state) {
    (void)state;
    buffer b = {0};
    assert_true(buffer_reserve(&b, 5000));
    const uint64_t before = mem_count();
    for (int i = 0; i < 5000; i++) assert_true(buffer_append(&b, "x", 1));
    assert_int_equal(mem_count(), before);
    assert_false(buffer_reserve(&b, SIZE_MAX));
    assert_false(buffer_reserve(&b, SIZE_MAX - 5000));
    assert_int_equal(b.size, 5000);
    assert_true(buffer_append(&b, NULL, 0));
    buffer_clear(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_overflow_are_size_max),
        cmocka_unit_test(an_overflowing_size_is_never_allocated),
        cmocka_unit_test(heap_memory_is_zeroed_and_counted),
        cmocka_unit_test(mapped_pages_are_zeroed_and_aligned),
        cmocka_unit_test(arena_memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(small_pieces_share_blocks),
        cmocka_unit_test(copies_are_terminated),
        cmocka_unit_test(a_buffer_grows_and_stays_terminated),
        cmocka_unit_test(appending_costs_few_allocations),
        cmocka_unit_test(what_was_reserved_is_not_allocated_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
