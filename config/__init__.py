"""Wiring only. The Celery application is made here so that `shared_task` finds it in every process."""

from config.celery import app

__all__ = ["app"]
