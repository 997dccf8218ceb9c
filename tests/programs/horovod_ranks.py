"""A rank of Horovod: adds up all ranks by allreduce, and says who it is."""

import os
import socket
import sys

import horovod.torch as hvd
import torch

hvd.init()
total = hvd.allreduce(torch.tensor([hvd.rank()]), op=hvd.Sum)
told = os.environ.get("PYTHON_TOLD", "nothing")
# One write, as mpirun takes writes of several ranks as they come.
sys.stdout.write(f"sum {total.item()}, told {told}, by rank {hvd.rank()} of {hvd.size()} on {socket.gethostname()}\n")
sys.stdout.flush()
hvd.shutdown()
