FROM python:3.13-slim AS build
# The face scorer, and what it needs, for --upstream embedded and for merlinface; 0 leaves it out: 180 MB less.
ARG SCORER=1
RUN python -m venv /opt/merlind
COPY requirements.lock requirements-cli.lock requirements-scorer.lock /src/
RUN case $SCORER in 1) more="-r /src/requirements-scorer.lock" ;; 0) more= ;; *) echo "SCORER is 1 or 0" >&2; exit 2 ;; esac \
    && /opt/merlind/bin/pip install --no-cache-dir --require-hashes -r /src/requirements.lock -r /src/requirements-cli.lock $more
COPY . /src/
RUN /opt/merlind/bin/pip install --no-cache-dir --no-deps /src \
    # Twisted keeps a cache of its plugins, which a read-only root could not write. It must be newer than they are, also
    # by the whole seconds that an image keeps.
    && /opt/merlind/bin/twistd --help >/dev/null \
    && find /opt/merlind -name dropin.cache -exec touch -d '2 seconds' {} + \
    && mkdir -m 0700 /data

FROM python:3.13-slim
COPY --from=build /opt/merlind /opt/merlind
COPY --from=build --chown=10001:10001 /data /var/lib/merlind
ENV PATH=/opt/merlind/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MERLIND_DATA_DIR=/var/lib/merlind
USER 10001:10001
WORKDIR /var/lib/merlind
VOLUME /var/lib/merlind
EXPOSE 8000
# It asks where MERLIND_ADMIN says; the default is named here.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "from merlind.admin.healthcheck import main; main('tcp:8001')"]
# No pid file: a stale one would keep the container from starting again.
ENTRYPOINT ["twistd", "-n", "--pidfile=", "merlind"]
