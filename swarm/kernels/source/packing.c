/* Weights from rows as checkpoints have them to tiles of 16 outputs, in which lanes are outputs and inputs ascend.

   fp32, fp16: [tile][input][16]; bf16: [tile][input / 2][16][2]; int8: [tile][group][8][16][4], bytes + 128; others: see kinds.h. Scales
   and minima: [tile][group][16]. Outputs and inputs that there are not are zeros. */
#include <string.h>
#include "kinds.h"

static int number_bytes(int kind) { return kind == WEIGHT_FP32 ? 4 : 2; }

int64_t swarm_packed_bytes(int kind, int outputs, int inputs) {
    int64_t tiles = (outputs + 15) / 16, groups = (inputs + GROUP - 1) / GROUP;
    if (kind >= WEIGHT_INT8) return tiles * groups * integer_bytes(kind);
    return tiles * groups * GROUP * 16 * number_bytes(kind);
}

int64_t swarm_scale_bytes(int kind, int shift, int outputs, int inputs) {
    return kind >= WEIGHT_INT8 ? (outputs + 15) / 16 * scale_blocks(kind, shift, (inputs + GROUP - 1) / GROUP) * scale_bytes(kind) : 0;
}

int swarm_has_minima(int kind) { return minima_apart(kind); }

/* Rows of [count][inputs] numbers, as outputs `from` onwards, into packed zeros. */
void swarm_pack_floats(int kind, int from, int count, int inputs, const void *rows, void *packed) {
    const int64_t groups = (inputs + GROUP - 1) / GROUP, tile_numbers = groups * GROUP * 16;
    for (int i = 0; i < count; i++) {
        int64_t output = from + i, base = output / 16 * tile_numbers, lane = output % 16;
        for (int64_t k = 0; k < inputs; k++) {
            int64_t to = kind == WEIGHT_BF16 ? base + k / 2 * 32 + lane * 2 + k % 2 : base + k * 16 + lane;
            if (kind == WEIGHT_FP32) ((uint32_t *)packed)[to] = ((const uint32_t *)rows)[i * (int64_t)inputs + k];
            else ((uint16_t *)packed)[to] = ((const uint16_t *)rows)[i * (int64_t)inputs + k];
        }
    }
}

/* Rows of [count][groups * 32] whole numbers (int8: -128 to 127; int4: 0 to 15, of which 8 is taken off unless there are minima) and
   their [count][groups] scales and minima, as binary16. */
void swarm_pack_integers(int kind, int from, int count, int groups, const uint8_t *rows, const uint16_t *scales, const uint16_t *minima,
                         uint8_t *packed, uint16_t *packed_scales, uint16_t *packed_minima) {
    const int64_t bytes = kind == WEIGHT_INT8 ? GROUP * 16 : GROUP * 8;
    for (int i = 0; i < count; i++) {
        int64_t output = from + i, tile = output / 16, lane = output % 16;
        for (int64_t g = 0; g < groups; g++) {
            const uint8_t *numbers = rows + (i * (int64_t)groups + g) * GROUP;
            uint8_t *place = packed + (tile * groups + g) * bytes + lane * 4;
            for (int k = 0; k < GROUP; k++) {
                if (kind == WEIGHT_INT8) place[k / 4 * 64 + k % 4] = numbers[k] ^ 128;
                else place[k % 16 / 4 * 64 + k % 4] |= (uint8_t)(k < 16 ? numbers[k] : numbers[k] << 4);
            }
            packed_scales[(tile * groups + g) * 16 + lane] = scales[i * (int64_t)groups + g];
            if (minima) packed_minima[(tile * groups + g) * 16 + lane] = minima[i * (int64_t)groups + g];
        }
    }
}
