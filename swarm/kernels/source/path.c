/* One path: compiled again for each, with PATH and the compiler's flags for its instructions. */
#include "attention.h"
#include "delta.h"
#include "linear.h"
#include "program.h"
#include "rounding.h"
#include "reading.h"
#include "rows.h"

#if PATH == PATH_AVX512
#define THIS path_avx512
#define NAME "avx512"
#elif PATH == PATH_AVX2
#define THIS path_avx2
#define NAME "avx2"
#elif PATH == PATH_NEON
#define THIS path_neon
#define NAME "neon"
#else
#define THIS path_plain
#define NAME "plain"
#endif

const struct path THIS = {.name = NAME,
                          .linear = linear_job,
                          .norm = norm_job,
                          .activation = activation_job,
                          .softmax = softmax_job,
                          .rotation = rotation_job,
                          .attention = attention_job,
                          .delta = delta_job,
                          .linear_room = linear_room,
                          .attention_room = attention_room,
                          .delta_room = delta_room,
                          .program = program_job,
                          .rounding = rounding_job,
                          .program_room = program_room,
                          .reading = reading_job};

#if PATH == PATH_NEON && defined(__clang__)
#pragma clang attribute pop
#endif
