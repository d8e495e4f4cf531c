# docker build -t steerzo-edge .
# docker run -p 8000:8000 -v steerzo:/data steerzo-edge           (with an NVIDIA GPU: --gpus all)

FROM debian:bookworm-slim AS system
# bitsandbytes needs libgomp.so.1 but does not contain it. torch's CPU wheel contains it, other wheels may not.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 python3 \
    && rm -rf /var/cache/apt/* /var/lib/apt/lists/*


FROM system AS requirements
COPY pyproject.toml .
# The project's dependencies, and those of the extra "gguf", which writes GGUF files.
RUN python3 -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
    print(*project["dependencies"], *project["optional-dependencies"]["gguf"], sep="\n")' > /requirements.txt


FROM system AS dependencies
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
# pip is in an environment of its own, so that the one that is shipped does not contain it.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/steerzo
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_PYTHON=/opt/steerzo/bin/python
WORKDIR /build
COPY constraints.txt .
# By default torch comes from PyPI; on x86-64 that build contains several gigabytes of CUDA. For a build without CUDA:
#   --build-arg TORCH_INDEX_URL=<the CPU index that pytorch.org's install page names>
ARG TORCH_INDEX_URL=
# That index has other versions of torch's dependencies, so only torch itself is installed from it.
RUN /opt/pip/bin/pip install --no-deps ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} -c constraints.txt torch
# Only the list is copied, not pyproject.toml, so that other changes of that file do not rebuild this layer.
COPY --from=requirements /requirements.txt .
RUN /opt/pip/bin/pip install -c constraints.txt torch -r requirements.txt
COPY docker/trim.py .
RUN python3 trim.py /opt/steerzo/lib/python3.11/site-packages


FROM dependencies AS project
COPY pyproject.toml README.md LICENSE ./
COPY profiles profiles
COPY server server
COPY steerzo_edge steerzo_edge
# Installed into /project, so that a change of the code rebuilds a small layer only.
RUN /opt/pip/bin/pip install --no-deps --no-warn-script-location --root /project .


FROM system
LABEL org.opencontainers.image.title="steerzo-edge" \
      org.opencontainers.image.description="Fine-tune quantized language models with forward passes only, on one small machine, and serve them from the same copy of the base." \
      org.opencontainers.image.licenses="Apache-2.0"
# 1000 is the id of the first user on most machines, so a bind-mounted /data needs no chown.
RUN useradd --uid 1000 --home-dir /data --no-create-home steerzo \
    && install --directory --owner=steerzo --group=steerzo /data /models
COPY --from=dependencies /opt/steerzo /opt/steerzo
COPY --from=project /project/opt/steerzo /opt/steerzo
# The server listens on a public address, so it requires a key: at its first start it makes one and logs it once.
# No bytecode is written at run time, because the root file system may be read-only (--read-only --tmpfs /tmp).
ENV PATH=/opt/steerzo/bin:$PATH \
    HF_HOME=/models \
    PYTHONDONTWRITEBYTECODE=1 \
    STEERZO_DATA_DIR=/data \
    STEERZO_HOST=0.0.0.0 \
    STEERZO_MAKE_KEY=1 \
    STEERZO_PORT=8000
# A number instead of a name, so that Kubernetes can check that the user is not root.
USER 1000:1000
WORKDIR /data
VOLUME ["/data", "/models"]
EXPOSE 8000
# The start period is long because a base may have to be downloaded. A proxy of the environment is not used.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m --retries=3 \
    CMD ["python3", "-I", "-c", "import os; from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:' + os.environ['STEERZO_PORT'] + '/readyz', timeout=4)"]
ENTRYPOINT ["steerzo"]
CMD ["serve"]
