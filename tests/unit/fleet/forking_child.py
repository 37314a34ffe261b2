"""What the template of `test_instances.py` runs: forks that say what they are."""

CHILD = """
import ctypes, json, os, random, signal, socket, sys, threading, uuid
import numpy.random
from tidesight.fleet.forking import Forker

channel_fd, lifeline_fd, mode = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
channel = socket.socket(fileno=channel_fd)

def serve(settings):
    death_signal = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(2, ctypes.byref(death_signal))
    fds = {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, lifeline_fd}
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in fds if os.path.exists(f"/proc/self/fd/{fd}")]
    lifeline = os.readlink(f"/proc/self/fd/{lifeline_fd}")
    said = {"settings": settings, "pid": os.getpid(), "session": os.getsid(0), "death_signal": death_signal.value,
            "fds": sum(link.startswith(("socket", "pipe", "anon")) and link != lifeline for link in links),
            "random": random.random(), "numpy": numpy.random.random(), "uuid": uuid.uuid4().hex}
    print(json.dumps(said))
    return 40 + int(settings["name"][1:])

stay = threading.Event()
if mode == "native":
    threading.Thread(target=stay.wait, daemon=True).start()
if mode == "later":
    signal.signal(signal.SIGALRM, lambda *_: threading.Thread(target=stay.wait, daemon=True).start())
    signal.setitimer(signal.ITIMER_REAL, 0.2)
Forker(channel, lifeline_fd, serve).run()
os._exit(0)
"""
