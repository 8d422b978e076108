"""How fast job files are read and checked: `python benchmarks/documents.py`. Processor time, the best of some rounds."""

import json
import time
from itertools import count

from windlass.documents.reading import Form, read_job
from windlass.documents.tree import Node
from windlass.documents.yaml_tree import from_yaml

HELLO = {"name": "hi", "tasks": [{"name": "t", "run": "echo hi"}]}
ROW = {"name": "j", "tasks": [{"name": f"t{number}", "run": "true"} for number in range(100)]}
TASK = """\
  - name: task {0}
    run: |
      echo {0}
      echo done with number {0} > "$TORK_OUTPUT"
    env:
      A: {0}
      B: some text
    timeout: 10s
"""
MEGABYTE = 1_000_000


def best_us(body: bytes, form: Form, times: int, rounds: int = 10) -> float:
    """Microseconds of processor time to read and check a document, in the best round."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time_ns()
        for _ in range(times):
            read_job(body, form)
        best = min(best, time.process_time_ns() - start)
    return best / times / 1000


def large_yaml() -> str:
    """A job of many tasks: the first half megabyte of it is all that one document may have."""
    text, numbers = "name: j\ntasks:\n", count()
    tasks = []
    size = len(text)
    while size < MEGABYTE // 2 - 500:
        tasks.append(TASK.format(next(numbers)))
        size += len(tasks[-1])
    return text + "".join(tasks)


def main() -> None:
    hello, row, large = json.dumps(HELLO).encode(), json.dumps(ROW).encode(), large_yaml()
    tree: Node = from_yaml(large)
    print(f"one task, JSON           {best_us(hello, 'json', 2000):10.1f} us")
    print(f"the same as YAML         {best_us(hello, 'yaml', 200):10.1f} us")
    print(f"a hundred tasks, JSON    {best_us(row, 'json', 100):10.1f} us")
    scale = MEGABYTE / len(large)
    per_megabyte = best_us(large.encode(), "yaml", 1, 3) * scale / 1e6
    print(f"a megabyte of YAML       {per_megabyte:10.2f} s, {round(tree.size * scale):,} keys and values")


if __name__ == "__main__":
    main()
