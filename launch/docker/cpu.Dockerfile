# rvc-jax for the CPU. In the repository's folder: docker build -f launch/docker/cpu.Dockerfile -t rvc-jax .
# docs/docker.md tells how it is used.
# The Python that the tests run on.
FROM python:3.11.14-slim-bookworm

ARG EXTRAS=serve,clean,cloud,onnx

# Whoever `docker run --user` names can write to the cache; HOME is for packages that want to keep something.
ENV RVC_JAX_HOME=/cache HOME=/cache PYTHONUNBUFFERED=1
RUN useradd --uid 1000 --no-create-home voice && install --directory --mode 1777 /cache /work

WORKDIR /opt/rvc_jax
COPY pyproject.toml README.md LICENSE ./
COPY rvc_jax rvc_jax
COPY data/sample data/sample
COPY docs/plan.json docs/plan.json
# What is installed is a folder, whose pyproject.toml bounds the versions.
# hadolint ignore=DL3013
RUN python -m pip install --no-cache-dir ".[${EXTRAS}]" && rvc-jax --version

USER 1000
WORKDIR /work
VOLUME /cache
ENTRYPOINT ["rvc-jax"]
CMD ["--help"]
