"""The house as a Django application: it has commands and checks, no models."""

from django.apps import AppConfig
from django.core.checks import register

from config.checks import demo_user_check, deployment_check


class HouseConfig(AppConfig):
    """Registers what a deployment refuses."""

    name = "config"
    verbose_name = "House"

    def ready(self) -> None:
        """Make every management command ask the checks."""
        register(deployment_check)
        register(demo_user_check)
