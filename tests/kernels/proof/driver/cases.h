/* One computation for each operation of the library: a case names its sizes, its seed gives its numbers. */
#pragma once
#include "portable.h"
#include "values.h"

#define MAX_SIZES 12

struct outcome {
    struct room room; /* binary32 numbers */
    int64_t count;
};
typedef struct outcome computed(const int *sizes, enum values values, struct seed seed);
struct computation {
    const char *name;
    int sizes; /* how many there are */
    computed *compute;
};
extern const struct computation computations[];
extern const int computation_count;
