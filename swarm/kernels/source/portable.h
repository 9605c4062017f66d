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
