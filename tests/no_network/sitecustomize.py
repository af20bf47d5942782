"""On the path of each process that a test starts: connections to other machines are refused, so no test depends on one.

Python imports a module of this name when it starts. One that stood in its place before is run, too.
"""
import importlib.machinery
import importlib.util
import ipaddress
import os
import socket
import sys


def is_here(address):
    "Whether an address is this machine's own, or no network address at all (a path, for instance)."
    if not isinstance(address, tuple):
        return True
    host = address[0].decode() if isinstance(address[0], bytes) else address[0]
    if host in ("localhost", "", None, socket.gethostname()):
        return True
    try:
        number = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return number.is_loopback or number.is_unspecified or is_ours(number)


def is_ours(number):
    "Whether one of this machine's own interfaces has the address: one can only listen at one's own."
    with socket.socket(socket.AF_INET6 if number.version == 6 else socket.AF_INET) as tried:
        try:
            tried.bind((str(number), 0))
        except OSError:
            return False
    return True


def guard(function, place):
    "The function, which refuses an address of another machine; `place` says where the address stands in its arguments."
    def guarded(*args, **options):
        address = args[place] if len(args) > place else None
        if not is_here(address if place else (address,)):
            raise OSError(f"no network in tests: {address!r}")
        return function(*args, **options)

    return guarded


def close_the_network():
    "From now on, only this machine."
    if not getattr(socket, "only_this_machine", False):
        socket.only_this_machine = True
        for name in ("connect", "connect_ex"):
            setattr(socket.socket, name, guard(getattr(socket.socket, name), 1))
        socket.getaddrinfo = guard(socket.getaddrinfo, 0)


close_the_network()
if __name__ == "sitecustomize":
    elsewhere = [path for path in sys.path if os.path.abspath(path or ".") != os.path.dirname(os.path.abspath(__file__))]
    hidden = importlib.machinery.PathFinder.find_spec("sitecustomize", elsewhere)
    if hidden is not None:
        hidden.loader.exec_module(importlib.util.module_from_spec(hidden))
