# An image of rvc-jax for NVIDIA GPUs. CUDA comes with JAX's packages; the machine has the driver.
# Build it in the root of the repository:
#   docker build -f launch/docker/cuda.Dockerfile -t rvc-jax:cuda .
# Usage: docs/docker.md

# The same Python as in the tests.
FROM python:3.11.14-slim-bookworm

ARG EXTRAS=serve,clean,cloud,onnx

# Every user can write to the cache, because `docker run --user` may name any. HOME is where other
# packages store their files.
ENV RVC_JAX_HOME=/cache HOME=/cache PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --uid 1000 --no-create-home voice && install --directory --mode 1777 /cache /work

WORKDIR /opt/rvc_jax
COPY pyproject.toml README.md LICENSE ./
COPY rvc_jax rvc_jax
COPY data/sample data/sample
COPY docs/plan.json docs/plan.json
# Pip installs this folder; its pyproject.toml bounds the versions.
# hadolint ignore=DL3013
RUN python -m pip install --no-cache-dir ".[cuda,${EXTRAS}]" && rvc-jax --version

USER 1000
WORKDIR /work
VOLUME /cache
ENTRYPOINT ["rvc-jax"]
CMD ["--help"]
