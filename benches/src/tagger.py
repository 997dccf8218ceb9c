"""What people write when they need it: tags each line of a program with its rank."""
import os
import subprocess
import sys


def main():
    rank = os.environ.get("PMI_RANK", "?")
    host = os.uname().nodename
    tag = f"[rank {rank}|{host}] ".encode()
    program = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
    out = sys.stdout.buffer
    for line in program.stdout:
        out.write(tag)
        out.write(line)
    out.flush()
    sys.exit(program.wait())


if __name__ == "__main__":
    main()
