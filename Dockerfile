# An image with nnU-Net and this package; trained models and data stay outside, in /data.
#
#   docker build -t nnunet_transfer .                                        processors only
#   docker build -t nnunet_transfer:cuda \
#       --build-arg BASE=pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime \
#       --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .     NVIDIA GPUs
#   docker run --rm -v /my/data:/data nnunet_transfer nnunet_transfer doctor
#   docker run --rm --gpus all --shm-size 16g -v /my/data:/data nnunet_transfer:cuda nnunet_transfer study run /data/study.yaml
#
# BASE is an image of Debian or Ubuntu with Python 3.11 to 3.13 and a pip that isn't the system's.
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /opt/nnunet_transfer
COPY setup.py pyproject.toml README.md LICENSE ./
COPY nnunet_transfer nnunet_transfer
COPY trainers trainers
COPY dataset_conversion dataset_conversion
# torch and torchvision in one go and from one index: builds that differ can't be imported together; setup.py bounds versions
# hadolint ignore=DL3013
RUN python -m pip install --no-cache-dir --index-url ${TORCH_INDEX} torch torchvision \
    && python -m pip install --no-cache-dir .
ENV nnUNet_raw=/data/nnUNet_raw \
    nnUNet_preprocessed=/data/nnUNet_preprocessed \
    nnUNet_results=/data/nnUNet_results
# some images have a user with this number
RUN useradd --create-home --non-unique --uid 1000 lab \
    && mkdir --parents ${nnUNet_raw} ${nnUNet_preprocessed} ${nnUNet_results} \
    && chown --recursive lab /data
# by number, so that a cluster sees without the image's user list that it isn't root
USER 1000
WORKDIR /data
VOLUME /data
# nnU-Net finds the trainers by a variable
ENTRYPOINT ["/bin/sh", "-c", "eval \"$(nnunet_transfer env)\" && exec \"$@\"", "--"]
CMD ["nnunet_transfer", "--help"]
