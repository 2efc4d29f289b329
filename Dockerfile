# syntax=docker/dockerfile:1
#
# The worker image for Dataflow, Flink and Spark; `docker run --entrypoint lrm IMAGE ...` makes it the command.
# See docs/deploy.md.
#
#     python -m build --sdist
#     docker build --build-arg EXTRAS=gcp --tag REGISTRY/lrm-kit:0.1.0 .
#     docker build --build-arg EXTRAS=gcp --target worker-torch --tag REGISTRY/lrm-kit:0.1.0-torch .

# Beam and Python must have the versions of the machine that starts jobs.
ARG BEAM=2.77.0
FROM apache/beam_python3.11_sdk:${BEAM} AS base

# gcp for gs://, s3 for s3://, or both with a comma between.
ARG EXTRAS=gcp
# Preparing data needs none of these, and torch alone has gigabytes. With an empty list the image can train.
ARG LEFT_OUT="lightning matplotlib safetensors tensorboard torch"

COPY dist/lrm_kit-*.tar.gz /tmp/lrm-kit/
RUN <<EOF
set -e
pip install --no-cache-dir --no-deps /tmp/lrm-kit/lrm_kit-*.tar.gz
python -I - > /tmp/lrm-kit/requirements.txt <<END
from importlib.metadata import requires

from packaging.requirements import Requirement

extras = ["", *"${EXTRAS}".split(",")]
for need in map(Requirement, requires("lrm-kit")):
    wanted = need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras)
    if wanted and need.name not in "${LEFT_OUT}".split():
        need.marker = None
        print(need)
END
pip install --no-cache-dir -r /tmp/lrm-kit/requirements.txt
rm -r /tmp/lrm-kit
lrm --version
# What workers compile is kept beside the package: the image has it, for processors like this one.
lrm doctor --warm
EOF

# Workers of `lrm recommend --runner`, which load a model: the same with torch for the CPU.
FROM base AS worker-torch
ARG SERVING="safetensors torch"
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN <<EOF
set -e
python -I - > /tmp/requirements.txt <<END
from importlib.metadata import requires

from packaging.requirements import Requirement

for need in map(Requirement, requires("lrm-kit")):
    if need.marker is None and need.name in "${SERVING}".split():
        print(need)
END
pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" -r /tmp/requirements.txt
rm /tmp/requirements.txt
EOF

# Workers of `lrm prepare`, which is what a build without --target makes.
FROM base AS worker

# The entry point stays that of the base image, /opt/apache/beam/boot: runners start workers by it.
