"""Wiring only. The Celery application is made here so that `shared_task` finds it in every process."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: work is spread over processes, threads only collide

from config.celery import app

__all__ = ["app"]
