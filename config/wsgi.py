"""WSGI entry of the web processes."""

import os

from django.core.wsgi import get_wsgi_application

from config.checks import refuse_unfit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_wsgi_application()
refuse_unfit()
