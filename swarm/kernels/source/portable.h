/* What the library offers. Plain pointers and sizes; nothing here knows Python or torch. docs/NUMERICS.md defines every operation. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define GROUP 32        /* inputs that share a scale */
#define SLICES 8        /* parts of the inputs that are summed apart */
#define BLOCK 128       /* positions whose attention is computed by itself */
#define MAX_THREADS 64
#define MAX_HEAD_DIM 512

enum weight_kind {
    WEIGHT_FP32, WEIGHT_BF16, WEIGHT_FP16, WEIGHT_INT8, WEIGHT_INT4, WEIGHT_INT4_MINIMUM, WEIGHT_INT5, WEIGHT_INT5_MINIMUM,
    WEIGHT_Q4_K, WEIGHT_Q5_K, WEIGHT_Q6_K, WEIGHT_IQ4_NL, WEIGHT_IQ4_XS, /* as llama.cpp's blocks say */
    WEIGHT_INT4_ZERO, WEIGHT_INT8_SHARED, /* 2^shift groups share a scale, and a zero */
};
enum cache_kind { CACHE_FP32, CACHE_BF16, CACHE_INT8 }; /* of int8 only keys and values, in tiles */
enum activation_kind {
    ACTIVATION_SILU,
    ACTIVATION_GELU,
    ACTIVATION_GELU_TANH,
    ACTIVATION_RELU,
    ACTIVATION_SIGMOID,
    ACTIVATION_TANH,
    ACTIVATION_EXP,
    ACTIVATION_SOFTPLUS
};

/* Weights of [outputs, inputs], packed in tiles of 16 outputs; inputs are padded with zeros to whole groups. */
struct weight {
    int32_t kind, outputs, inputs, groups, tiles;
    int32_t shift;            /* of kinds whose groups share scales; 31: all groups share one */
    int32_t wide;             /* whether rows become integers of 16 bits for it, and not of 8; integers only */
    const void *numbers;      /* see packing.c */
    const uint16_t *scales;   /* of integers; see kinds.h, most are binary16 [tile][group][16] */
    const uint16_t *minima;   /* binary16 [tile][group][16], of kinds that have them there */
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
    int64_t tiled;                         /* keys stand in tiles of 16 positions, [head_dim][16] each; values lie head_dim apart; see cached.h */
    int64_t first, stop;                   /* stop > first */
    const float *biases;                   /* [heads][stop - first] added to products, or null */
};

/* What a layer by the gated delta rule holds. Its channels are those of the queries, then of the keys, then of the values, head by head;
   each key head serves value_heads / key_heads value heads, which lie beside each other. */
struct delta {
    int32_t key_heads, value_heads, key_dim, value_dim;
    int32_t taps;             /* of the convolution: rows that one depends on, itself among them */
    int32_t window;           /* enum cache_kind, of the rows that are kept for it */
    float norm_eps;
    const float *weights;     /* of the convolution, [taps][channels], the newest row's last */
    const float *rates;       /* [value_heads], below zero: of fading by step */
    const float *step_bias;   /* [value_heads] */
    const float *norm;        /* [value_dim] */
};

/* What one layer keeps of a session, and where it will be kept after a call: what is read and what is written may be the same. */
struct state {
    const void *window;       /* [taps - 1][channels]: the rows before, as they entered the convolution */
    const float *memory;      /* [value_heads][key_dim][value_dim] */
    void *next_window;
    float *next_memory;
};

/* Rows of one session, one after the other, that pass through its state. */
struct passage {
    struct state state;
    int64_t first;            /* its first row among all that are given */
    int64_t count;
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
    OPERATION_RECUR,    /* what a projection gives, through a session's state: more = recurs */
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

struct recurs {
    struct delta delta;
    int64_t layer;     /* whose state, among those of a session's */
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
    void *keys, *values;     /* in tiles of 16 positions, [head_dim][16] each; [positions][head_dim]; of int8 see cached.h */
    int64_t head_stride;     /* in numbers */
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
    const struct state *const *states;   /* [sessions][layers that keep one] */
    const float *const *biases;          /* [count] of [heads][positions seen], or null */
    const struct turning *turnings;
    const struct given *inputs;
    char *room;              /* swarm_program_room bytes */
    int64_t scratch, pairs;  /* parts of it, which that function sets */
    int64_t threads;         /* for which it is enough; likewise */
};
