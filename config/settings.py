"""Settings of the twin: embedded defaults, and the deployment chosen by DATABASE_URL, REDIS_URL and DEPLOYMENT=1."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dj_database_url
from celery.schedules import schedule
from django.core.exceptions import ImproperlyConfigured
from kombu import Exchange, Queue

from config.env import env_bool, env_float, env_int, env_list, env_str, secret_file_read

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env_str("VAR_DIR", str(BASE_DIR / "var"))).resolve()

# --- what kind of installation this is -------------------------------------------------------------------------------
DEPLOYMENT = env_bool("DEPLOYMENT", default=False)  # a real one: no debug, no demo, no default secret (config.checks)
DEBUG = env_bool("DEBUG", default=False)
DEMO = env_bool("DEMO", default=not DEPLOYMENT)
SECRET_KEY = env_str("SECRET_KEY") if DEPLOYMENT else env_str("SECRET_KEY") or secret_file_read(VAR_DIR / "secret_key")
if not SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY is not set: a deployment needs its own secret of at least 50 characters")
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS", [])
PORT = env_int("PORT", 8000, low=1)
WEB_THREADS = env_int("WEB_THREADS", 8, low=1)
WORKER_CONCURRENCY = env_int("WORKER_CONCURRENCY", 2, low=1)

# --- runs: how long a claim holds, how often lost ones are looked for -------------------------------------------------
RUN_LEASE_S = env_float("RUN_LEASE_S", 30.0, low=0.5)
RUN_SWEEP_S = env_float("RUN_SWEEP_S", 10.0, low=0.5)
TRACE_MAX_BYTE = env_int("TRACE_MAX_BYTE", 64 * 2**20, low=1)
IMPORT_MAX_BYTE = env_int("IMPORT_MAX_BYTE", 256 * 2**20, low=1)
IMPORT_KEPT_BYTE = env_int("IMPORT_KEPT_BYTE", 4 * IMPORT_MAX_BYTE, low=1)
TRACE_MAX_REQUESTS = env_int("TRACE_MAX_REQUESTS", 5_000_000, low=1)

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "axes",
    "csp",
    "fleet",
    "scenarios",
    "api",
    "dashboard",
    "config",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "config.authorship.AuthorshipMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- database: SQLite in WAL with immediate transactions, or what DATABASE_URL names ----------------------------------
DATABASES: dict[str, Any] = {
    "default": dj_database_url.parse(
        env_str("DATABASE_URL", f"sqlite:///{quote(str(VAR_DIR / 'db.sqlite3'))}"),
        conn_max_age=60,
        conn_health_checks=True,
    )
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    Path(DATABASES["default"]["NAME"]).parent.mkdir(parents=True, exist_ok=True)
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",  # a writer waits at BEGIN; a deferred one fails when it upgrades its lock
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }


# --- broker and cache: Redis or Valkey; by default the embedded server's socket ---------------------------------------
def broker_socket_path() -> Path:
    """Return the embedded broker's socket: in VAR_DIR, or, where that is too long, beside temporary files."""
    path = VAR_DIR / "broker" / "valkey.sock"
    if len(str(path).encode()) <= 100:  # the kernel's limit is 108 bytes
        return path
    return (
        Path(tempfile.gettempdir()) / f"fleet-twin-{hashlib.sha256(str(VAR_DIR).encode()).hexdigest()[:12]}" / "v.sock"
    )


BROKER_SOCKET = broker_socket_path()
BROKER_EMBEDDED = not env_str("REDIS_URL")
REDIS_URL = env_str("REDIS_URL", f"unix://{quote(str(BROKER_SOCKET))}")

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "twin",
    }
}

CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 6 * 3600,  # longer than the longest task
    "unacked_restore_interval": 5,  # kombu looks every 100 s for what a dead worker held, unless told
    "unacked_restore_throttle": 1,
    "socket_connect_timeout": 3,
    # a request that cannot reach the broker says so at once: the run stays queued and the sweep sends it
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.2,
}
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TIMEZONE = "UTC"
# a worker takes from each queue in turn: however much there is to compute, a tick waits for no more than a step
CELERY_TASK_QUEUES = tuple(Queue(name, Exchange(name), routing_key=name) for name in ("celery", "ticks"))
CELERY_TASK_ROUTES = {"scenarios.tasks.sweep": {"queue": "ticks", "routing_key": "ticks"}}
CELERY_BEAT_SCHEDULE = {
    "sweep": {
        "task": "scenarios.tasks.sweep",
        "schedule": schedule(RUN_SWEEP_S),
        "options": {"expires": RUN_SWEEP_S * 3},
    },
    "purge": {"task": "api.tasks.purge", "schedule": schedule(3600), "options": {"expires": 3600}},
}

# --- who may come in --------------------------------------------------------------------------------------------------
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "dashboard:login"
LOGIN_REDIRECT_URL = "dashboard:overview"
LOGOUT_REDIRECT_URL = "dashboard:login"
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25  # [h]
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_VERBOSE = False

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_NAME = "twin_session"  # cookies know no port: another local site must not sign ours out
CSRF_COOKIE_NAME = "twin_csrf"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if DEPLOYMENT:
    HTTPS = env_bool("HTTPS", default=True)
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
    SECURE_SSL_REDIRECT = HTTPS
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
    SECURE_HSTS_SECONDS = 3600 * 24 * 30 if HTTPS else 0

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}

# --- language, time, files --------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
STATIC_URL = "static/"
STATIC_ROOT = Path(env_str("STATIC_ROOT", str(VAR_DIR / "static")))
if not DEPLOYMENT:
    STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # whitenoise warns of a directory that is not there
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True  # serves static/ as it lies: no collectstatic in an embedded start
WHITENOISE_AUTOREFRESH = False

# --- REST -------------------------------------------------------------------------------------------------------------
API_WAIT_MAX_S = env_float("API_WAIT_MAX_S", 20.0)  # a request that waits holds a web thread
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "api.auth.BearerAuthentication",  # the first one words the 401
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["api.auth.ScopedRights"],
    "DEFAULT_RENDERER_CLASSES": ["api.renderers.OrjsonRenderer"],
    "DEFAULT_PARSER_CLASSES": ["api.renderers.OrjsonParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "api.renderers.OneRenderer",
    "DEFAULT_FILTER_BACKENDS": ["api.filters.StrictFilter"],
    "DEFAULT_PAGINATION_CLASS": "api.filters.StrictPages",
    "DEFAULT_THROTTLE_CLASSES": ["api.throttles.BucketThrottle"],
    "DEFAULT_THROTTLE_RATES": {
        "read": env_str("RATE_READ", "6000/min"),
        "write": env_str("RATE_WRITE", "1200/min"),
        "run": env_str("RATE_RUN", "120/min"),
        "export": env_str("RATE_EXPORT", "300/min"),
        "login": env_str("RATE_LOGIN", "30/min"),
    },
    "DEFAULT_SCHEMA_CLASS": "api.schema.OperationSchema",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "api.errors.problem_handle",
    "NUM_PROXIES": env_int("PROXIES", 0),  # how many of our own proxies stand before the web server
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "TEST_REQUEST_RENDERER_CLASSES": [
        "api.renderers.OrjsonRenderer",
        "rest_framework.renderers.MultiPartRenderer",
    ],
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Fleet twin",
    "DESCRIPTION": "Capacity and migration of datacenters that move inference off the GPU. See docs/api.md.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "SERVE_INCLUDE_SCHEMA": False,
    "SORT_OPERATIONS": True,
    "ENUM_NAME_OVERRIDES": {"ImportModeEnum": "scenarios.models.ImportJob.Mode"},
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "api.schema.finish",
    ],
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env_str("LOG_LEVEL", "INFO")},
}
