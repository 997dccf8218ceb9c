"""A rank of a job of DeepSpeed's launcher: adds up all ranks by Gloo, and says who it is."""

import os
import socket
import sys

import torch
import torch.distributed as dist

if "RANK" not in os.environ:
    # Under its Open MPI launcher the rank asks MPI, as deepspeed.init_distributed does.
    from deepspeed.comm.comm import mpi_discovery

    mpi_discovery()
# DeepSpeed's own call compiles C++ for ranks without a GPU; what it then calls is this.
dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
total = torch.tensor([rank])
dist.all_reduce(total)
told = os.environ.get("PYTHON_TOLD", "nothing")
# One write, as mpirun takes writes of several ranks as they come.
sys.stdout.write(f"sum {total.item()}, told {told}, by rank {rank} of {size} on {socket.gethostname()}\n")
sys.stdout.flush()
dist.barrier()
