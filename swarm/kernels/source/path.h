/* The operations of one path, as dispatch.c chooses among them. */
#pragma once
#include "pool.h"
#include "portable.h"

struct linear {
    const struct weight *weight;
    const float *rows;  /* [count][ld_rows] */
    const float *bias;  /* [outputs], or null */
    float *out;         /* [count][ld_out] */
    int64_t ld_rows, ld_out;
    int32_t count;
    void *room;         /* linear_room(weight, count) bytes, for rows as they are computed with */
};
struct norm {
    const float *rows, *weight, *bias; /* weight and bias may be null */
    float *out;
    int64_t ld_rows, ld_out;
    int32_t count, width, centred;
    float eps;
};
struct activation {
    const float *rows; /* [count][ld_rows]; gated: gates, then what they multiply, `width` each */
    float *out;        /* [count][width] */
    int64_t ld_rows;
    int32_t count, width, kind, gated;
    float limit;       /* gates at most this, the other half between it and its negative; 0: none */
    float slope;       /* of what goes through the sigmoid in x * sigmoid(slope * x); 0: the kind as it is */
    float offset;      /* added to the other half before it is multiplied */
};
struct softmax {
    const float *rows;
    float *out;
    int64_t ld_rows;
    int32_t count, width;
};
struct rotation {
    float *rows;             /* [count][ld_rows]: `heads` heads of head_dim, turned where they are */
    const float *cos, *sin;  /* [count][head_dim / 2] */
    int64_t ld_rows;
    int32_t count, heads, head_dim;
};
struct attending {
    const struct attention *attention;
    const float *queries; /* [count][ld_queries]: heads * head_dim */
    const struct seen *seen; /* [count] */
    float *out;           /* [count][ld_out]: heads * head_dim */
    int64_t ld_queries, ld_out;
    int32_t count;
    float *room;          /* of each thread, see attention.c */
    int64_t room_each;
};

struct recurring {
    const struct delta *delta;
    const float *rows;    /* [..][ld_rows]: channels, then gates [value_heads][value_dim], strengths [value_heads], steps [value_heads] */
    const struct passage *passages; /* [count] */
    float *out;           /* [..][ld_out]: value_heads * value_dim */
    int64_t ld_rows, ld_out;
    int32_t count;
    float *room;          /* of each thread */
    int64_t room_each;
};

struct reading {
    const void *numbers;
    int64_t lines;              /* of 64 bytes, a multiple of 4 */
    uint64_t sums[MAX_THREADS]; /* so that nothing is left out as unused */
};

struct rounding {
    const struct weight *weight; /* int8, int4, or floats; packed zeros */
    const void *rows;            /* [count][row_bytes] */
    int32_t kind;                /* of these: fp32, bf16, fp16, or one of llama.cpp's blocks, of which only floats are made otherwise */
    int32_t from, count, columns;
    int64_t row_bytes;
};

struct path {
    const char *name;
    job *linear, *norm, *activation, *softmax, *rotation, *attention, *delta;
    int64_t (*linear_room)(const struct weight *weight, int count);   /* bytes */
    int64_t (*attention_room)(const struct attention *attention); /* numbers for each thread */
    int64_t (*delta_room)(const struct delta *delta, int rows);   /* likewise; rows: the most of one passage */
    job *program, *rounding;
    int64_t (*program_room)(struct passing *work, int threads);   /* bytes */
    job *reading;
};

extern const struct path path_plain;
#if defined(__x86_64__)
extern const struct path path_avx2, path_avx512;
#elif defined(__aarch64__)
extern const struct path path_neon;
#endif

#define JOINED(a, b) a##b
#define NAMED(a, b) JOINED(a, b)
