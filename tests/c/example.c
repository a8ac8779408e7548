/* A map in the directory that is named on the command line. README.md shows this file. */
#include <stdio.h>

#include "blocktier.h"

static int fail(const char *what, const blocktier_error_t *error) {
    fprintf(stderr, "%s: %.*s\n", what, (int)error->text_length, (const char *)error->text);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 2 || blocktier_abi_version() != BLOCKTIER_ABI) {
        return 2;
    }
    char settings[512];
    int length = snprintf(settings, sizeof settings, "txMapDirs = %s\ntxMapTail = 1M\n", argv[1]);
    blocktier_error_t error;
    blocktier_runtime_t *runtime;
    blocktier_txmap_t *map;
    if (blocktier_runtime_open(NULL, 0, &runtime, &error) != BLOCKTIER_OK) {
        return fail("open", &error);
    }
    if (blocktier_txmap_open(runtime, settings, (size_t)length, &map, &error) != BLOCKTIER_OK) {
        return fail("open map", &error);
    }
    const uint8_t txid[32] = {7};
    const uint8_t inpoints[4] = {0};
    blocktier_lookup_t there[2];
    for (int i = 0; i < 2; i++) {
        if (blocktier_txmap_set_if_not_exists(map, txid, inpoints, sizeof inpoints, 0, 0, NULL, 0,
                                              &there[i], &error) != BLOCKTIER_OK) {
            return fail("insert", &error);
        }
    }
    printf("first time: %s, second time: %s\n", there[0].found ? "there" : "new",
           there[1].found ? "there" : "new");
    if (blocktier_txmap_close(map, &error) != BLOCKTIER_OK) {
        return fail("close", &error);
    }
    blocktier_runtime_close(runtime, NULL);
    return 0;
}
