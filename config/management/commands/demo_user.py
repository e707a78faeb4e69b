"""Create the demo user, or show or renew its password."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from config.demo import USERNAME, demo_user_create, password_path


class Command(BaseCommand):
    """Create the demo user with the password on file, and show it."""

    help = "Create the demo user and show its password; --renew makes a new one."

    def add_arguments(self, parser: CommandParser) -> None:
        """One switch."""
        parser.add_argument("--renew", action="store_true", help="forget the old password")

    def handle(self, *args: Any, **options: Any) -> None:
        """Create and show."""
        if options["renew"]:
            password_path().unlink(missing_ok=True)
        self.stdout.write(f"user {USERNAME}, password {demo_user_create()}")
