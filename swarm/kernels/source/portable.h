/* What the library offers. Plain pointers and sizes; nothing here knows Python or torch. docs/NUMERICS.md defines every operation. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define GROUP 32        /* inputs that share a scale */
#define SLICES 8        /* parts of the inputs that are summed apart */
#define BLOCK 128       /* positions whose attention is computed by itself */
#define MAX_THREADS 64
#define MAX_HEAD_DIM 512

enum weight_kind { WEIGHT_FP32, WEIGHT_BF16, WEIGHT_FP16, WEIGHT_INT8, WEIGHT_INT4, WEIGHT_INT4_MINIMUM };
enum cache_kind { CACHE_FP32, CACHE_BF16 };
enum activation_kind { ACTIVATION_SILU, ACTIVATION_GELU, ACTIVATION_GELU_TANH, ACTIVATION_RELU, ACTIVATION_SIGMOID, ACTIVATION_TANH };

/* Weights of [outputs, inputs], packed in tiles of 16 outputs; inputs are padded with zeros to whole groups. */
struct weight {
    int32_t kind, outputs, inputs, groups, tiles;
    const void *numbers;      /* see packing.c */
    const uint16_t *scales;   /* binary16 [tile][group][16], of integers */
    const uint16_t *minima;   /* likewise; WEIGHT_INT4_MINIMUM only */
};

struct attention {
    int32_t heads, kv_heads, head_dim, cache;
    float scale;         /* of queries */
    float softcap;       /* 0: none */
    const float *sinks;  /* [heads], or null */
};

/* One query row: whose keys and values it sees, from `first` to `stop` - 1. */
struct seen {
    const void *keys, *values;             /* of position 0 of kv head 0; position p of head h lies at h * head_stride + p * row_stride */
    int64_t head_stride, row_stride;       /* in numbers */
    int64_t first, stop;
    const float *biases;                   /* [heads][stop - first] added to products, or null */
};

/* A span of layers as a list of operations on registers: each holds `width` numbers of every row. */
enum operation_kind {
    OPERATION_READ,     /* of what the caller gives besides the rows: input `number`, from its column from_at */
    OPERATION_NORM,     /* `heads` times `width` columns, each by itself: weight, bias, a = eps, option: centred */
    OPERATION_ROTATE,   /* `heads` heads of `width`, by table `number` */
    OPERATION_ACTIVATE, /* kind `number`; option: gated, `other` is multiplied; a, b, c: limit, slope, offset */
    OPERATION_COPY,
    OPERATION_ADD,      /* `other` */
    OPERATION_MULTIPLY, /* by `other`; option: by its one number at other_at */
    OPERATION_SCALE,    /* by a */
    OPERATION_ROUND,    /* to binary32 that is bf16 */
    OPERATION_ROUTE,    /* logits of experts to the numbers of the chosen ones and, behind those, their shares: more = experts */
    OPERATION_LINEAR,   /* weight: `number` parts; bias */
    OPERATION_ATTEND,   /* queries, and keys and values behind them at other_at: more = attends */
    OPERATION_EXPERTS,  /* `other`: what OPERATION_ROUTE gave; more = experts */
};
#define FIRST_TOGETHER OPERATION_LINEAR /* from here on threads need each other's results */

struct operation {
    int32_t kind, from, from_at, other, other_at, to, to_at, width, heads, number, option;
    float a, b, c;
    const void *weight;
    const float *bias;
    const void *more;
};

struct attends {
    struct attention attention;
    int32_t layer;     /* whose keys and values in a session's cache */
    int32_t stores;    /* whether they are made here */
    int64_t window;    /* positions that a row sees, itself among them; 0: all before it */
};

struct parted {              /* a linear layer: outputs of one weight after the other */
    const struct weight *parts;
    const float *bias;       /* of all outputs, or null */
    int64_t count;
};

struct expert {
    struct parted up, down;
};

struct experts {
    int32_t count, used, hidden, inner;
    int32_t sum_to_one;     /* shares of those that are chosen, by a softmax among them */
    int32_t activation, gated;
    float limit, slope, offset;
    const float *scales;    /* [count], of shares, or null */
    const struct expert *experts;
};

struct program {
    const struct operation *operations;
    const int32_t *widths;   /* of registers; rows come in and leave by the first */
    const int32_t *together; /* of registers: whether threads write parts of a row */
    int32_t count, registers;
};

/* Keys and values of one layer in a session's cache. */
struct cached {
    void *keys, *values;
    int64_t head_stride;     /* in numbers; positions lie head_dim apart */
};

struct turning {
    const float *cos, *sin;  /* [positions][half] */
    int64_t half;
};

struct given {
    const float *rows;
    int64_t ld_rows;
};

/* Rows on their way through a program. */
struct passing {
    const struct program *program;
    const void *rows;        /* [count][ld_rows], of kind `kind` */
    void *out;               /* [count][width of the first register], likewise */
    int64_t ld_rows;
    int32_t count, kind;     /* enum cache_kind */
    const int64_t *positions;            /* [count]; null: a text, of which a row sees those before and after it */
    const int32_t *sessions;             /* [count] */
    const struct cached *const *caches;  /* [sessions][layers] */
    const float *const *biases;          /* [count] of [heads][positions seen], or null */
    const struct turning *turnings;
    const struct given *inputs;
    char *room;              /* swarm_program_room bytes */
    int64_t scratch, pairs;  /* parts of it, which that function sets */
    int64_t threads;         /* for which it is enough; likewise */
};
