"""A program that uses a stack until its standard input ends; with `leave`, it leaves it running.

Prints `using URL STARTED` when it has it, and `released` when it has let go.
"""

import asyncio
import os
import sys

from windlass.local.stack import use


async def main(data: str, leave: bool) -> None:
    """Use it."""
    async with use(os.environ, data, ["--port", "0", "--runtime", "shell"]) as stack:
        if leave:
            await stack.leave_running()
        print("using", stack.url, stack.was_started, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print("released", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], "leave" in sys.argv))
