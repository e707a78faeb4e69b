"""Make a token for a user and print its secret once."""

from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from api.tokens import token_make


class Command(BaseCommand):
    """Make a token for a user and print its secret once."""

    help = "Make an API token for a user. Its secret is printed once and cannot be read again."

    def add_arguments(self, parser: CommandParser) -> None:
        """User, name and scopes."""
        parser.add_argument("username")
        parser.add_argument("--name", default="command line", help="what the token is for")
        parser.add_argument("--scopes", default="read,write,run", help="of read, write, run, admin; by commas")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make and print."""
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"there is no user {options['username']!r}", returncode=2)
        scopes = [word.strip() for word in options["scopes"].split(",") if word.strip()]
        try:
            _, secret = token_make(owner=user, name=options["name"], scopes=scopes)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages), returncode=2) from error
        self.stdout.write(secret)
