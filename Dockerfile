# One image for every service and the command line; the command picks which:
# atlas-provider-router, atlas-agent-controller, atlas-agent-worker, atlas.

# A release names the digest: --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:…
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/opt/atlas
WORKDIR /src
# First what rarely changes, every package at its locked hash, uv itself too.
COPY requirements/ requirements/
RUN awk '/^[a-z]/ { wanted = /^uv==/ } wanted' requirements/dev.txt > uv.txt \
    && pip install --no-cache-dir --root-user-action=ignore --no-deps --require-hashes -r uv.txt \
    && uv venv "$VIRTUAL_ENV" \
    && uv pip sync --no-cache --require-hashes requirements/base.txt
COPY pyproject.toml README.md LICENSE ./
COPY shared/ shared/
COPY services/ services/
RUN uv build --no-cache --wheel --require-hashes --build-constraints requirements/dev.txt --out-dir dist \
    && uv pip install --no-cache --no-deps dist/*.whl

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --create-home atlas \
    # Volumes that are mounted here are the user's own: `atlas access init /access` writes into them.
    && install -d -o atlas -g atlas /access /access/nats /access/users \
    && install -d -o atlas -g atlas -m 700 /access/users/provider_router \
        /access/users/agent_controller /access/users/agent_worker /access/users/operator
COPY --from=build /opt/atlas /opt/atlas
ENV PATH=/opt/atlas/bin:$PATH \
    PYTHONUNBUFFERED=1
USER atlas
WORKDIR /home/atlas
CMD ["atlas", "--help"]
