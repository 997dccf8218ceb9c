/* An MPI program for tests: does one plain thing, or fails in one chosen way.
 *
 *   ranks hello                     say hello, prove communication, end
 *   ranks sleep SECONDS             the same, with a pause before the end (fractions allowed)
 *   ranks spin                      the same, then compute until killed
 *   ranks lines COUNT               the same, then COUNT numbered lines on stdout and on stderr, with checksums
 *   ranks checkpoint SECONDS        the same, then wait for SIGTERM, save for so long, end well
 *   ranks hang RANK                 RANK sleeps for ever, the others wait for it
 *   ranks fill PATH RANK            RANK writes to PATH until there is no room, and says so
 *   ranks exit CODE RANK [WHEN]     RANK leaves with CODE; WHEN: before-init, after-init (default), after-finalize
 *   ranks abort CODE RANK           RANK calls MPI_Abort(CODE)
 *   ranks segv RANK                 RANK writes through a null pointer
 *   ranks signal NUMBER RANK        RANK sends itself a signal
 *   ranks alloc MIB RANK            RANK touches MIB mebibytes and holds them
 *   ranks mpi-error RANK            RANK sends to a rank that does not exist
 *
 * In a failing job every other rank waits in MPI_Barrier, as a real program would.
 */
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static int rank, size;

/* One line, one write: it can be split only by whoever relays it. */
static void say(const char *word) {
    char host[MPI_MAX_PROCESSOR_NAME], line[MPI_MAX_PROCESSOR_NAME + 64];
    int length;
    MPI_Get_processor_name(host, &length);
    length = snprintf(line, sizeof line, "%s rank %d of %d on %s\n", word, rank, size, host);
    if (write(STDOUT_FILENO, line, (size_t)length) != length) _exit(70);
}

static void usage(void) {
    fprintf(stderr, "ranks: bad arguments, see the head of tests/programs/ranks.c\n");
    exit(64);
}

/* The rank as the launcher tells it, for what must happen before MPI_Init. */
static int early_rank(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value != NULL) return atoi(value);
    }
    return 0;
}

static void pause_for(double seconds) {
    struct timespec left = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&left, &left) != 0) continue;
}

/* Everything, also into a pipe whose reader is slow. */
static void write_all(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t written = write(fd, bytes, length);
        if (written < 0) _exit(73);
        bytes += written;
        length -= (size_t)written;
    }
}

/* `STREAM RANK NUMBER FILLING CHECKSUM`: FNV-1a of what stands before the last blank. The two streams take
 * turns in blocks that end anywhere in a line, as a program's buffers do. */
static void write_lines(long count) {
    static char blocks[2][8192];
    size_t used[2] = {0, 0};
    for (long number = 0; number < count; number++) {
        for (int stream = 0; stream < 2; stream++) {
            char line[256];
            int length = snprintf(line, sizeof line, "%c %d %ld ", stream == 0 ? 'o' : 'e', rank, number);
            unsigned filling = (unsigned)(number * 2654435761u) >> 25;
            for (unsigned i = 0; i < filling; i++) line[length++] = (char)('a' + (number + i) % 26);
            unsigned hash = 2166136261u;
            for (int i = 0; i < length; i++) hash = (hash ^ (unsigned char)line[i]) * 16777619u;
            length += sprintf(line + length, " %08x\n", hash);
            for (int i = 0; i < length; i++) {
                blocks[stream][used[stream]++] = line[i];
                if (used[stream] == sizeof blocks[stream]) {
                    write_all(stream + 1, blocks[stream], used[stream]);
                    used[stream] = 0;
                }
            }
        }
    }
    for (int stream = 0; stream < 2; stream++) write_all(stream + 1, blocks[stream], used[stream]);
}

static volatile sig_atomic_t told;

static void on_term(int signal) {
    told = signal;
}

static void checkpoint(double seconds) {
    struct sigaction action = {.sa_handler = on_term};
    sigset_t mask, before;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigprocmask(SIG_BLOCK, &mask, &before);
    sigaction(SIGTERM, &action, NULL);
    say("waits");
    while (!told) sigsuspend(&before);
    pause_for(seconds);
    say("saved");
}

static void fill(const char *path) {
    static char block[1 << 16];
    FILE *file = fopen(path, "w");
    while (file != NULL && fwrite(block, sizeof block, 1, file) == 1 && fflush(file) == 0) continue;
    perror(path);
    _exit(1);
}

static void fail(int argc, char **argv) {
    const char *how = argv[1];
    if (strcmp(how, "fill") == 0) fill(argv[2]);
    while (strcmp(how, "hang") == 0) pause_for(3600);
    if (strcmp(how, "exit") == 0) _exit(atoi(argv[2]));
    if (strcmp(how, "abort") == 0) MPI_Abort(MPI_COMM_WORLD, atoi(argv[2]));
    if (strcmp(how, "signal") == 0) raise(atoi(argv[2]));
    if (strcmp(how, "segv") == 0) *(volatile int *)NULL = 1;
    if (strcmp(how, "mpi-error") == 0) MPI_Send(&rank, 1, MPI_INT, size, 0, MPI_COMM_WORLD);
    if (strcmp(how, "alloc") == 0) {
        size_t bytes = (size_t)atol(argv[2]) << 20;
        char *memory = malloc(bytes);
        if (memory == NULL) _exit(71);
        for (size_t at = 0; at < bytes; at += 4096) ((volatile char *)memory)[at] = 1;
        say("allocated");
    }
    (void)argc;
}

int main(int argc, char **argv) {
    if (argc < 2) usage();
    const char *how = argv[1];
    int calm = strcmp(how, "hello") == 0 || strcmp(how, "sleep") == 0 || strcmp(how, "spin") == 0 ||
               strcmp(how, "lines") == 0 || strcmp(how, "checkpoint") == 0;
    int counted = calm && strcmp(how, "hello") != 0 && strcmp(how, "spin") != 0;
    int coded = strcmp(how, "exit") == 0 || strcmp(how, "abort") == 0 || strcmp(how, "signal") == 0 ||
                strcmp(how, "alloc") == 0 || strcmp(how, "fill") == 0;
    int plain = strcmp(how, "segv") == 0 || strcmp(how, "hang") == 0 || strcmp(how, "mpi-error") == 0;
    if (!calm && !coded && !plain) usage();
    if (argc < (counted ? 3 : calm ? 2 : coded ? 4 : 3)) usage();

    int culprit = calm ? -1 : atoi(argv[coded ? 3 : 2]);
    const char *when = strcmp(how, "exit") == 0 && argc > 4 ? argv[4] : "after-init";

    /* A core file a rank would fill the disk and prove nothing. */
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);

    if (strcmp(when, "before-init") == 0 && early_rank() == culprit) fail(argc, argv);

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);

    int sum = 0;
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (sum != size * (size - 1) / 2) {
        fprintf(stderr, "ranks: the sum over all ranks is %d, not %d\n", sum, size * (size - 1) / 2);
        MPI_Abort(MPI_COMM_WORLD, 72);
    }
    say("hello");

    if (strcmp(how, "sleep") == 0) pause_for(atof(argv[2]));
    if (strcmp(how, "checkpoint") == 0) checkpoint(atof(argv[2]));
    if (strcmp(how, "lines") == 0) write_lines(atol(argv[2]));
    if (strcmp(how, "spin") == 0) {
        for (volatile unsigned long turns = 0;; turns++) continue;
    }
    if (!calm && strcmp(when, "after-finalize") != 0) {
        if (rank == culprit) fail(argc, argv);
        MPI_Barrier(MPI_COMM_WORLD);
    }

    MPI_Finalize();
    if (!calm && strcmp(when, "after-finalize") == 0 && rank == culprit) fail(argc, argv);
    return 0;
}
