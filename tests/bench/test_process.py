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
