"""horovodrun of a Horovod that was installed without its C++, which takes minutes to compile.

All of it is Horovod's own code but for one answer: whether that C++ was built with Gloo and MPI. The ranks that it
starts must do without Horovod.
"""

from horovod.runner import launch


def built(verbose=False):
    return True


# It starts helpers by importing this file again.
if __name__ == "__main__":
    launch.gloo_built = launch.mpi_built = built
    launch.run_commandline()
