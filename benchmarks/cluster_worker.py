"""What benchmarks/cluster.py adds to its Dask workers (--preload): they note their traffic, and what they open of the client.
"""
import os
import sys

from distributed.comm import tcp


def dask_setup(worker):
    "Begin to take notes, in files in this worker's own folder; each line is written at once, since the worker will be killed."
    client = os.environ["CLUSTER_CLIENT"]  # the client's folder: nothing else tells this worker where that is
    opened, traffic = (open(name, "a", buffering=1) for name in ("opened.txt", "traffic.txt"))
    send, receive = tcp.TCP.write, tcp.read_bytes_rw

    def hook(event, arguments):
        "What Python opens, lists, creates, moves or removes."
        for given in arguments if event.startswith(("open", "os.", "shutil.")) else ():
            if isinstance(given, (str, bytes, os.PathLike)) and os.path.abspath(os.fsdecode(given)).startswith(client):
                print(event, given, file=opened)

    async def write(*arguments, **options):
        count = await send(*arguments, **options)
        print("sent", count, file=traffic)
        return count

    async def read(stream, count):
        print("received", count, file=traffic)
        return await receive(stream, count)

    tcp.TCP.write, tcp.read_bytes_rw = write, read
    sys.addaudithook(hook)
