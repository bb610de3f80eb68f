"""An MCP server of the standard library alone that does one thing wrong: the first argument says which."""

import json
import os
import signal
import subprocess
import sys
import time

HOW = sys.argv[1]
VERSION = {"old": "2024-11-05", "prehistoric": "2019-01-01"}.get(HOW, "2025-06-18")
PLAIN = {"type": "object", "properties": {"word": {"type": "string"}}}


def send(value):
    sys.stdout.write(value if isinstance(value, str) else json.dumps(value) + "\n")
    sys.stdout.flush()


def answer(number, result):
    return {"jsonrpc": "2.0", "id": number, "result": result}


def text(*words, **more):
    return {"content": [{"type": "text", "text": word} for word in words], **more}


def tools(params):
    tool = {"name": "say", "description": "Says it.", "inputSchema": PLAIN}
    if HOW in ("pages", "circle", "endless"):
        page = int((params or {}).get("cursor") or 0)
        following = {"pages": page + 1 if page < 2 else None, "circle": 0, "endless": page + 1}[HOW]
        more = {} if following is None else {"nextCursor": str(following)}
        return {"tools": [{**tool, "name": f"say{page}"}] if HOW != "circle" else [], **more}
    if HOW == "twins":
        return {"tools": [tool, tool]}
    if HOW == "leaks":
        return {"tools": [{**tool, "description": "key " + os.environ["KEY"]}]}
    if HOW == "hints":
        return {"tools": [{**tool, "annotations": {"readOnlyHint": True, "destructiveHint": False}}]}
    return {"tools": [tool]}


def call(number, word):
    reply = answer(number, text(f"said {word}"))
    if HOW == "crash":
        print("boom: out of luck", file=sys.stderr, flush=True)
        os._exit(3)
    if HOW == "killed":
        os.kill(os.getpid(), signal.SIGSEGV)
    if HOW == "closes":
        os.close(1)
        time.sleep(60)
    if HOW in ("late", "hangs"):
        if HOW == "hangs":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
    if HOW == "prints":
        send('debug: about to say it\n{not json either\n42\n{"a": 1}\n\n')
    if HOW == "twice":
        send(reply)
        reply = answer(number, text("said something else"))
    if HOW == "disorder":
        send(answer(number + 1, text("the answer to a later call")))
        send(answer("no such id", text("the answer to nobody")))
    if HOW == "huge":
        reply = answer(number, text("x" * 50_000_000))
    if HOW == "cut":
        reply = json.dumps(reply)[:-5] + "\n"
    if HOW == "latin":
        sys.stdout.buffer.write(json.dumps(reply).replace("said", "s\u00e9").encode("latin-1") + b"\n")
        sys.stdout.flush()
        return
    if HOW == "pretty":
        reply = json.dumps(reply, indent=1) + "\n"
    if HOW == "unmarked":
        del reply["jsonrpc"]
    if HOW == "surrogate":
        reply = answer(number, text("\ud800"))
    if HOW == "deep":
        reply = answer(number, {"content": [], "structuredContent": {"a": "DEEP"}})
        reply = json.dumps(reply).replace('"DEEP"', "[" * 5000 + "]" * 5000) + "\n"
    if HOW == "nan":
        reply = answer(number, {"content": [], "structuredContent": {"a": float("nan")}})
    if HOW == "shapeless":
        reply = answer(number, {"content": "not a list"})
    if HOW == "image":
        reply = answer(number, {"content": [{"type": "image", "data": "QUJD", "mimeType": "image/png"}]})
    if HOW == "parts":
        image = {"type": "image", "data": "QUJD", "mimeType": "image/png"}
        reply = answer(number, {"content": [*text("one")["content"], image, *text("둘")["content"]]})
    if HOW == "structured":
        reply = answer(number, {"content": [], "structuredContent": {"도시": "서울", "n": [1, 2]}})
    if HOW == "empty":
        reply = answer(number, {"content": []})
    if HOW == "is_error":
        reply = answer(number, text("no such word", isError=True))
    if HOW == "error":
        reply = {"jsonrpc": "2.0", "id": number, "error": {"code": -32602, "message": "word is too short"}}
    if HOW == "batch":
        reply = [{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}}, reply]
    if HOW in ("sampling/createMessage", "elicitation/create", "roots/list"):
        send(
            {
                "jsonrpc": "2.0",
                "id": "q",
                "method": HOW,
                "params": {
                    "messages": [],
                    "maxTokens": 9,
                    "message": "?",
                    "requestedSchema": {"type": "object", "properties": {}},
                }
                if HOW != "roots/list"
                else {},
            }
        )
        refusal = json.loads(sys.stdin.readline())
        reply = answer(number, text("refused" if "error" in refusal else "granted", isError=True))
    if HOW == "leaks":
        print("the key is", os.environ["KEY"], file=sys.stderr, flush=True)
        reply = answer(number, text(json.dumps({"key": os.environ["KEY"]}), isError=word == "error"))
    if HOW == "environment":
        reply = answer(number, text(json.dumps(dict(os.environ))))
    if HOW == "leaves":
        script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
        child = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
        open(os.path.join(os.environ["TMPDIR"], "left"), "w").close()
        reply = answer(number, text(f"{child.pid} {os.getpid()} {os.environ['TMPDIR']}"))
    send(reply)


if HOW == "silent":
    time.sleep(60)
if HOW == "dies":
    sys.exit("no licence for this machine")
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        capabilities = {
            "protocolVersion": VERSION,
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "odd", "version": "1"},
        }
        send(answer(message["id"], capabilities))
    elif message.get("method") == "tools/list":
        send(answer(message["id"], tools(message.get("params"))))
    elif message.get("method") == "tools/call":
        call(message["id"], message["params"]["arguments"].get("word"))
