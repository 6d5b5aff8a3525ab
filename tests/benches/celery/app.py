"""The predecessor's shape with nothing in it: 27 tasks, a timetable, a worker, and Redis between them."""

import os
import time

from celery import Celery
from celery.schedules import crontab

FOLDER = os.environ["RIVAL_FOLDER"]
NAMES = os.environ["RIVAL_TASKS"].split(",")

os.makedirs(FOLDER, exist_ok=True)
app = Celery("minerva", broker=os.environ["RIVAL_BROKER"], backend=os.environ["RIVAL_BROKER"])
app.conf.update(
    task_track_started=True,
    worker_send_task_events=True,
    task_send_sent_event=True,
    worker_prefetch_multiplier=4,
    timezone="America/Sao_Paulo",
    beat_schedule_filename=f"{FOLDER}/beat",
    beat_schedule={
        f"{name}-nightly": {"task": name, "schedule": crontab(minute=0, hour=number % 24)}
        for number, name in enumerate(NAMES)
    },
)
if each := os.environ.get("RIVAL_EACH_MINUTE"):
    app.conf.beat_schedule = {"each-minute": {"task": each, "schedule": crontab()}}


def made(name):
    @app.task(name=name)
    def work(seconds=0):
        with open(f"{FOLDER}/started", "a") as file:
            file.write(f"{time.time()}\n")
        time.sleep(seconds)
        return seconds

    return work


tasks = {name: made(name) for name in NAMES}
