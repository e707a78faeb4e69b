# One image for web, worker, beat and migrate. The compiler stays in the first stage.
FROM python:3.11-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
COPY requirements.txt constraints.txt ./
RUN pip install --requirement requirements.txt --constraint constraints.txt
COPY . .
# The build knows no secret: it runs as an embedded installation whose files are thrown away.
RUN python setup.py --quiet build_ext --inplace \
    && export VAR_DIR=/tmp/build STATIC_ROOT=/app/staticfiles \
    && python manage.py static_build \
    && python manage.py collectstatic --noinput --verbosity 0 \
    && rm -rf build /tmp/build

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --create-home twin \
    && install --directory --owner twin --mode 0700 /var/lib/twin
COPY --from=build /venv /venv
COPY --from=build /app /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DEPLOYMENT=1 VAR_DIR=/var/lib/twin STATIC_ROOT=/app/staticfiles
WORKDIR /app
USER twin
EXPOSE 8000
CMD ["python", "-m", "gunicorn", "config.wsgi:application", "--bind", "0.0.0.0:8000", "--worker-class", "gthread", "--workers", "2", "--threads", "8", "--timeout", "120", "--no-control-socket"]
