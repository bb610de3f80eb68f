"""Runs check.py of a folder in a process of its own, told by lines of JSON. It imports nothing of ours.

Started as `python -I check_child.py FOLDER`. The first line it reads is `{task, answer, actions}`; it may write
`{call, arguments}` and reads the result; the last line that it writes is `{verdict}` or `{error}`.
"""

import json
import os
import queue
import sys
import threading
import traceback
from types import SimpleNamespace
from typing import Any


def main() -> None:
    folder = os.path.abspath(sys.argv[1])
    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    sys.path[:] = [folder, *(path for path in sys.path if os.path.abspath(path or ".") != ours)]
    sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what check.py prints is no part of the talk
    lines: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(1)  # whoever started this is gone

    threading.Thread(target=listen, daemon=True).start()

    def say(value: dict[str, Any]) -> None:
        out.write(json.dumps(value) + "\n")
        out.flush()

    told = json.loads(lines.get())

    def call(name: str, arguments: "dict[str, Any] | None" = None, **more: Any) -> Any:
        """The result of a call of a tool. Its error is raised as RuntimeError."""
        say({"call": name, "arguments": {**(arguments or {}), **more}})
        result = json.loads(lines.get())
        if result["error"] is not None:
            raise RuntimeError(result["error"])
        return result["output"]

    try:
        import check  # noqa: PLC0415 - the folder's own

        run = SimpleNamespace(call=call, answer=told["answer"], actions=told["actions"])
        verdict = check.check(told["task"], run)
        if not isinstance(verdict, bool | int | float):
            verdict = [[str(goal), bool(held), str(why)] for goal, held, why in verdict]
        say({"verdict": verdict})
    except BaseException as error:  # whatever a stranger's code raises is told
        say({"error": "".join(traceback.format_exception_only(error)).strip()})


if __name__ == "__main__":
    main()
