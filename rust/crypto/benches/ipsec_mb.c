/*
 * The yardstick: ChaCha20-Poly1305 of Intel's ipsec-mb over the batches that examples/aead.rs seals.
 *
 *   apt-get install libipsec-mb-dev
 *   cc -O2 -o /tmp/ipsec_mb rust/crypto/benches/ipsec_mb.c -lIPSec_MB && /tmp/ipsec_mb
 *
 * No associated data, counter nonces, in place, a tag behind each packet. Best of 21 runs, as there.
 */
#include <intel-ipsec-mb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS 21
#define BATCHES 100

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static double run(IMB_MGR *mgr, int size, int batch, int seal)
{
    const int stride = 16 + size + 16;
    unsigned char *slab = calloc(batch, stride), *tags = calloc(batch, 16), key[32];
    unsigned char (*nonces)[12] = calloc(batch, 12);
    double best = 1e18;

    memset(key, 7, sizeof key);
    for (int i = 0; i < batch; i++)
        nonces[i][4] = (unsigned char)i;
    for (int round = 0; round < ROUNDS; round++) {
        double start = now_ns();
        for (int b = 0; b < BATCHES; b++) {
            int done = 0;
            for (int i = 0; i < batch; i++) {
                IMB_JOB *job = IMB_GET_NEXT_JOB(mgr);
                memset(job, 0, sizeof *job);
                unsigned char *text = slab + (size_t)i * stride + 16;
                job->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
                job->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
                job->cipher_direction = seal ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
                job->chain_order = seal ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
                job->enc_keys = job->dec_keys = key;
                job->key_len_in_bytes = 32;
                job->src = text;
                job->dst = text;
                job->msg_len_to_cipher_in_bytes = job->msg_len_to_hash_in_bytes = size;
                job->iv = nonces[i];
                job->iv_len_in_bytes = 12;
                job->auth_tag_output = seal ? text + size : tags + 16 * i;
                job->auth_tag_output_len_in_bytes = 16;
                for (job = IMB_SUBMIT_JOB(mgr); job != NULL; job = IMB_GET_COMPLETED_JOB(mgr))
                    done += job->status == IMB_STATUS_COMPLETED;
            }
            for (IMB_JOB *job; (job = IMB_FLUSH_JOB(mgr)) != NULL;)
                done += job->status == IMB_STATUS_COMPLETED;
            if (done != batch) {
                fprintf(stderr, "%d of %d jobs completed, error %d\n", done, batch, imb_get_errno(mgr));
                exit(1);
            }
        }
        double each = (now_ns() - start) / BATCHES / batch;
        if (each < best)
            best = each;
    }
    free(slab);
    free(tags);
    free(nonces);
    return best;
}

int main(void)
{
    static const int scenes[][2] = {{1420, 32}, {1420, 8}, {1420, 1}, {512, 32}, {64, 32}, {64, 1}};
    IMB_MGR *mgr = alloc_mb_mgr(0);

    init_mb_mgr_auto(mgr, NULL);
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        int size = scenes[i][0], batch = scenes[i][1];
        double seal = run(mgr, size, batch, 1), open = run(mgr, size, batch, 0);
        printf("| %d | %d | ipsec-mb %s | %.0f | %.2f | %.0f | %.2f |\n", size, batch, imb_get_version_str(), seal, size / seal,
               open, size / open);
    }
    free_mb_mgr(mgr);
    return 0;
}
