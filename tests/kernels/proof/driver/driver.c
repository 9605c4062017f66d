/* Computes cases, one a line of its input, by every path and by one thread and several, and answers each with a line: the hash of its bits, or
   what differs. A case is `operation values seed threads sizes...`, as in ../golden.txt. Exits 2 where it does not understand a case.

   driver [path]; driver --paths: which there are. */
#include "cases.h"

int swarm_paths(char *names, int room);
int swarm_choose_path(const char *name);
void swarm_set_threads(int count);

/* What is no number is one bit pattern: processors differ in it. */
static void settle(struct outcome *found) {
    uint32_t *bits = found->room.items;
    for (int64_t i = 0; i < found->count; i++)
        if ((bits[i] & 0x7fffffff) > 0x7f800000) bits[i] = 0x7fc00000;
}

/* FNV-1a. */
static uint64_t hash_of(const struct outcome *found) {
    uint64_t hash = 0xcbf29ce484222325ull;
    const uint32_t *bits = found->room.items;
    for (int64_t i = 0; i < found->count; i++)
        for (int byte = 0; byte < 4; byte++) hash = (hash ^ (bits[i] >> 8 * byte & 255)) * 0x100000001b3ull;
    return hash;
}

static struct outcome computed_by(const struct computation *computation, const int *sizes, enum values values, uint64_t seed, const char *path, int threads) {
    if (swarm_choose_path(path)) {
        fprintf(stderr, "driver: there is no path %s\n", path);
        exit(2);
    }
    swarm_set_threads(threads);
    struct outcome found = computation->compute(sizes, values, (struct seed){seed * 0x9e3779b97f4a7c15ull + 1});
    settle(&found);
    return found;
}

/* The first number in which two outcomes differ, or -1. */
static int64_t difference(const struct outcome *one, const struct outcome *other) {
    const uint32_t *left = one->room.items, *right = other->room.items;
    for (int64_t i = 0; i < one->count; i++)
        if (left[i] != right[i]) return i;
    return -1;
}

/* The first path by one thread is what the others are held to. */
static void answer(const struct computation *computation, const int *sizes, enum values values, uint64_t seed, int threads, char *paths) {
    struct outcome expected = {{NULL, NULL}, -1};
    int unlike = 0;
    for (char *path = strtok(paths, " "); path; path = strtok(NULL, " "))
        for (int count = 1; count <= threads; count += threads > 1 ? threads - 1 : 1) {
            struct outcome found = computed_by(computation, sizes, values, seed, path, count);
            if (expected.count < 0) {
                expected = found;
                continue;
            }
            int64_t at = difference(&found, &expected);
            if (at >= 0 && !unlike++)
                printf("unlike: %s with %d threads at %lld: %08x for %08x\n", path, count, (long long)at, ((uint32_t *)found.room.items)[at],
                       ((uint32_t *)expected.room.items)[at]);
            give_back(found.room);
        }
    if (!unlike) printf("%016llx\n", (unsigned long long)hash_of(&expected));
    fflush(stdout);
    give_back(expected.room);
}

static const struct computation *computation_named(const char *name) {
    for (int i = 0; i < computation_count; i++)
        if (!strcmp(computations[i].name, name)) return computations + i;
    fprintf(stderr, "driver: there is no operation %s\n", name);
    exit(2);
}

int main(int count, char **arguments) {
    char line[512], all[128], paths[128], name[32];
    swarm_paths(all, sizeof all);
    if (count > 1 && !strcmp(arguments[1], "--paths")) return puts(all) < 0;
    while (fgets(line, sizeof line, stdin)) {
        int values, threads, used, sizes[MAX_SIZES] = {0};
        unsigned long long seed;
        if (sscanf(line, "%31s %d %llu %d%n", name, &values, &seed, &threads, &used) != 4) return 2;
        const struct computation *computation = computation_named(name);
        const char *rest = line + used;
        for (int i = 0; i < computation->sizes; i++) {
            if (sscanf(rest, "%d%n", sizes + i, &used) != 1) {
                fprintf(stderr, "driver: %s needs %d sizes: %s", name, computation->sizes, line);
                return 2;
            }
            rest += used;
        }
        snprintf(paths, sizeof paths, "%s", count > 1 ? arguments[1] : all); /* one path, or every one there is */
        answer(computation, sizes, (enum values)values, seed, threads, paths);
    }
    swarm_set_threads(1);
    return 0;
}
