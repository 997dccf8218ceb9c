"""Pi by mpi4py: each rank adds up its share, rank 0 prints.

Here:        muster launch -n 4 -- python3 examples/mpi4py/pi.py
On workers:  muster launch -- python3 /home/mpiuser/pi.py
"""

from mpi4py import MPI

INTERVALS = 10_000_000

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()
width = 1.0 / INTERVALS
share = sum(4.0 / (1.0 + ((i + 0.5) * width) ** 2) for i in range(rank, INTERVALS, size)) * width
pi = comm.reduce(share, op=MPI.SUM, root=0)
print(f"rank {rank} of {size} on {MPI.Get_processor_name()}", flush=True)
if rank == 0:
    print(f"pi is about {pi:.9f}", flush=True)
