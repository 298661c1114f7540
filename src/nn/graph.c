/* graph.c - the verbs of weir/nn.h: each checks its shapes, records one operation, returns its
 * result.
 *
 * Errors are sticky.  After the first, verbs go on returning tensors of the right shape, so that
 * model code never has to look; graph_record reports what was kept.
 *
 * Test: tests/nn/test_graph.c.
 *
 * SPDX-License-Identifier: MIT */
#include "nn/graph.h"

#include <assert.h>
#include <string.h>

/* Keeps the first failure. */
static void fail(nn_graph *g, const char *what, const char *name, int found, int wanted) {
    if (g->error.status != WEIR_OK) return;
    weir_fail(&g->error, WEIR_ERR_MODEL, "%s: %s has %d features, wanted %d", name, what, found,
              wanted);
}

static void refuse(nn_graph *g, const char *name, const char *why) {
    if (g->error.status == WEIR_OK) weir_fail(&g->error, WEIR_ERR_MODEL, "%s: %s", name, why);
}

/* Rows of all tokens and rows of the wanted ones are not the same rows. */
static void check_rows(nn_graph *g, const char *name, const nn_tensor *a, const nn_tensor *b) {
    if (a->selected != b->selected) refuse(g, name, "mixes all rows with the wanted ones");
}

/* Room for one more operation and its tensor; both arrays were sized by graph_record. */
static nn_tensor *record(nn_graph *g, graph_op op, int features, bool selected) {
    assert(op.n_in >= 1 && op.n_in <= 3 && features > 0);
    for (int i = 0; i < op.n_in; i++) {
        assert(op.in[i] >= 0 && op.in[i] <= g->n_tensors);
        if (op.in[i] != g->ids || op.kind == NN_LOOKUP) continue;
        refuse(g, "model", "token ids can only be looked up");
    }
    if (g->n_ops == g->capacity) {
        if (g->error.status == WEIR_OK) {
            weir_fail(&g->error, WEIR_ERR_MODEL, "model: more than %d operations", g->capacity);
        }
        g->nowhere = (nn_tensor){.features = features, .selected = selected};
        return &g->nowhere;
    }
    nn_tensor *t = &g->tensors[g->n_tensors];
    *t = (nn_tensor){
        .index = g->n_tensors++, .features = features, .op = g->n_ops, .selected = selected};
    op.out = t->index;
    g->ops[g->n_ops++] = op;
    return t;
}

static const char *param_name(const nn_param *p) {
    return p ? p->view->name : "(missing)";
}

nn_tensor *nn_lookup(nn_graph *g, const nn_embedding *e, nn_tensor *ids) {
    const int dim = e->weight ? e->weight->n_cols : 1;
    if (ids->index != g->ids) refuse(g, param_name(e->weight), "looks up what is no token ids");
    return record(g,
                  (graph_op){.kind = NN_LOOKUP, .in = {ids->index}, .n_in = 1, .u.embedding = *e},
                  dim, false);
}

nn_tensor *nn_project(nn_graph *g, const nn_linear *l, nn_tensor *x) {
    const int out = l->weight ? l->weight->n_rows : 1;
    if (l->weight && l->weight->n_cols != x->features) {
        fail(g, "the input", param_name(l->weight), x->features, l->weight->n_cols);
    }
    return record(g, (graph_op){.kind = NN_PROJECT, .in = {x->index}, .n_in = 1, .u.linear = *l},
                  out, x->selected);
}

nn_tensor *nn_normalize(nn_graph *g, const nn_norm *m, nn_tensor *x) {
    if (m->group <= 0 || x->features % m->group != 0) {
        fail(g, "the input", param_name(m->weight), x->features, m->group);
    }
    return record(g, (graph_op){.kind = NN_NORMALIZE, .in = {x->index}, .n_in = 1, .u.norm = *m},
                  x->features, x->selected);
}

nn_tensor *nn_attend(nn_graph *g, const nn_attention *a, nn_tensor *q, nn_tensor *k, nn_tensor *v) {
    const int q_dim = a->n_heads * a->head_dim, kv_dim = a->n_kv_heads * a->head_dim;
    if (q->features != q_dim) fail(g, "q", "attention", q->features, q_dim);
    if (k->features != kv_dim) fail(g, "k", "attention", k->features, kv_dim);
    if (v->features != kv_dim) fail(g, "v", "attention", v->features, kv_dim);
    if (q->selected || k->selected || v->selected) {
        refuse(g, "attention", "needs all rows, not the wanted ones");
    }
    return record(
        g,
        (graph_op){
            .kind = NN_ATTEND, .in = {q->index, k->index, v->index}, .n_in = 3, .u.attention = *a},
        q_dim, false);
}

nn_tensor *nn_gate(nn_graph *g, nn_act act, nn_tensor *gate, nn_tensor *up) {
    if (gate->features != up->features) {
        fail(g, "up", "gate", up->features, gate->features);
    }
    check_rows(g, "gate", gate, up);
    return record(
        g, (graph_op){.kind = NN_GATE, .in = {gate->index, up->index}, .n_in = 2, .u.act = act},
        gate->features, gate->selected);
}

nn_tensor *nn_activate(nn_graph *g, nn_act act, nn_tensor *x) {
    return record(g, (graph_op){.kind = NN_ACTIVATE, .in = {x->index}, .n_in = 1, .u.act = act},
                  x->features, x->selected);
}

nn_tensor *nn_clamp(nn_graph *g, float bound, nn_tensor *x) {
    if (bound == 0) return x;
    return record(g, (graph_op){.kind = NN_CLAMP, .in = {x->index}, .n_in = 1, .u.bound = bound},
                  x->features, x->selected);
}

nn_tensor *nn_add(nn_graph *g, nn_tensor *a, nn_tensor *b) {
    if (a->features != b->features) fail(g, "b", "addition", b->features, a->features);
    check_rows(g, "addition", a, b);
    return record(g, (graph_op){.kind = NN_ADD, .in = {a->index, b->index}, .n_in = 2}, a->features,
                  a->selected);
}

nn_tensor *nn_wanted(nn_graph *g, nn_tensor *x) {
    if (x->selected) refuse(g, "nn_wanted", "comes a second time");
    return record(g, (graph_op){.kind = NN_WANTED, .in = {x->index}, .n_in = 1}, x->features, true);
}

weir_status graph_record(nn_graph **out, arena *a, const nn_arch *arch, const checkpoint *c,
                         weir_error *err) {
    enum { OPS_PER_LAYER = 48, OPS_BESIDE = 16 };
    *out = NULL;
    nn_graph *g = ARENA_NEW(a, nn_graph);
    void *model = arena_array(a, 1, arch->size);
    const int capacity = c->config.n_layers * OPS_PER_LAYER + OPS_BESIDE;
    if (g) {
        g->ops = ARENA_ARRAY(a, graph_op, (size_t)capacity);
        g->tensors = ARENA_ARRAY(a, nn_tensor, (size_t)capacity + 1);
    }
    if (!g || !model || !g->ops || !g->tensors) {
        return weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory for the graph", c->path);
    }
    g->arena = a;
    g->capacity = capacity;

    nn_loader loader = {.checkpoint = c, .arena = a};
    const nn_scope root = {.loader = &loader, .index = -1};
    arch->make(model, &root, &c->config);
    if (loader.error.status != WEIR_OK) {
        return weir_fail(err, loader.error.status, "%s: %s", c->path, loader.error.message);
    }

    g->tensors[g->n_tensors++] = (nn_tensor){.op = -1, .features = 1};
    const nn_tensor *logits = arch->forward(model, g, &g->tensors[0]);
    if (g->error.status != WEIR_OK) {
        return weir_fail(err, g->error.status, "%s: %s", c->path, g->error.message);
    }
    if (!logits->selected || logits->features != c->config.vocab) {
        return weir_fail(err, WEIR_ERR_MODEL,
                         "%s: %s must end in nn_wanted rows of %d logits, gives %d", c->path,
                         arch->name, c->config.vocab, logits->features);
    }
    g->logits = logits->index;
    *out = g;
    return WEIR_OK;
}
