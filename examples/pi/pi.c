/* Computes pi by the midpoint rule over 4/(1+x*x), its intervals dealt out to all ranks.
 * Usage: pi [INTERVALS]        (default 100,000,000)
 */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static const double PI = 3.14159265358979323846;

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);

    int rank, size, length;
    char host[MPI_MAX_PROCESSOR_NAME];
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Get_processor_name(host, &length);

    char *rest = "";
    long long intervals = argc > 1 ? strtoll(argv[1], &rest, 10) : 100000000;
    if (intervals < 1 || *rest != '\0') {
        if (rank == 0) fprintf(stderr, "pi: the number of intervals must be a positive whole number, not '%s'\n", argv[1]);
        MPI_Abort(MPI_COMM_WORLD, 2);
    }

    printf("rank %d of %d on %s\n", rank, size, host);
    fflush(stdout);

    double started = MPI_Wtime();
    double width = 1.0 / (double)intervals, sum = 0.0;
    for (long long i = rank; i < intervals; i += size) {
        double x = ((double)i + 0.5) * width;
        sum += 4.0 / (1.0 + x * x);
    }

    double part = sum * width, pi = 0.0;
    MPI_Reduce(&part, &pi, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    if (rank == 0) {
        printf("pi is %.15f, error %.1e, %lld intervals on %d ranks in %.2f s\n",
               pi, fabs(pi - PI), intervals, size, MPI_Wtime() - started);
        fflush(stdout);
    }

    MPI_Finalize();
    return 0;
}
