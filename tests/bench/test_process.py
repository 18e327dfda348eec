import mmap
import os
import signal
import subprocess
import sys
import time

from bench.process import cost


def test_the_cost_of_children_is_counted_while_they_live() -> None:
    before = cost()
    code = (
        "import time; block = bytearray(60 << 20); end = time.process_time() + 0.4\n"
        "while time.process_time() < end: pass\n"
        "print(1, flush=True); time.sleep(30)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alive = cost()
        child.kill()
    assert alive.cpu_s - before.cpu_s >= 0.35
    assert alive.peak_mib - before.peak_mib >= 55
    time.sleep(0.01)
    assert cost().cpu_s - before.cpu_s >= 0.35  # reaped, and still counted


def test_memory_that_children_fill_together_counts_once() -> None:
    size = 60 << 20
    shared = mmap.mmap(-1, size)
    told, tell = os.pipe()
    before, children = cost(), []
    for _ in range(2):
        if (child := os.fork()) == 0:
            for at in range(0, size, mmap.PAGESIZE):
                shared[at] = 1
            os.write(tell, b".")
            time.sleep(30)
            os._exit(0)
        children.append(child)
    for _ in children:
        os.read(told, 1)
    filled = cost().peak_mib - before.peak_mib
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert 55 <= filled <= 100, "60 MiB, and a little of each child's own"
    os.close(told)
    os.close(tell)
    shared.close()
