# docker build -t steerzo-edge .
# docker run -p 8000:8000 -v steerzo:/data steerzo-edge           (with an NVIDIA GPU: --gpus all)

FROM debian:bookworm-slim AS system
# bitsandbytes links libgomp.so.1 without bringing it; torch's CPU wheel happens to, others need not.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 python3 \
    && rm -rf /var/cache/apt/* /var/lib/apt/lists/*


FROM system AS requirements
COPY pyproject.toml .
# With what GGUF files are written by.
RUN python3 -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
    print(*project["dependencies"], *project["optional-dependencies"]["gguf"], sep="\n")' > /requirements.txt


FROM system AS dependencies
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
# pip works from a place of its own, so that what it installs into can be shipped without it.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/steerzo
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_PYTHON=/opt/steerzo/bin/python
WORKDIR /build
COPY constraints.txt .
# By default torch comes from PyPI: on x86-64 that build brings CUDA, several gigabytes of it. To do without:
#   --build-arg TORCH_INDEX_URL=<the CPU index that pytorch.org's install page names>
ARG TORCH_INDEX_URL=
# That index has other versions of what torch needs, so torch comes from it alone.
RUN /opt/pip/bin/pip install --no-deps ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} -c constraints.txt torch
# Only the list, not pyproject.toml: other changes to that file leave this layer as it is.
COPY --from=requirements /requirements.txt .
RUN /opt/pip/bin/pip install -c constraints.txt torch -r requirements.txt
COPY docker/trim.py .
RUN python3 trim.py /opt/steerzo/lib/python3.11/site-packages


FROM dependencies AS project
COPY pyproject.toml README.md LICENSE ./
COPY profiles profiles
COPY server server
COPY steerzo_edge steerzo_edge
# Into a root of its own, so that a change of code is a small layer on top of the large one below.
RUN /opt/pip/bin/pip install --no-deps --no-warn-script-location --root /project .


FROM system
LABEL org.opencontainers.image.title="steerzo-edge" \
      org.opencontainers.image.description="Fine-tune quantized language models with forward passes only, on one small machine, and serve them from the same copy of the base." \
      org.opencontainers.image.licenses="Apache-2.0"
# 1000 is the first user of most machines, so a bind-mounted /data needs no chown there.
RUN useradd --uid 1000 --home-dir /data --no-create-home steerzo \
    && install --directory --owner=steerzo --group=steerzo /data /models
COPY --from=dependencies /opt/steerzo /opt/steerzo
COPY --from=project /project/opt/steerzo /opt/steerzo
# The address is public, so the server needs a key: at its first start it makes one and logs it, once.
# Bytecode is not written at run time: the root file system may be read-only (--read-only --tmpfs /tmp).
ENV PATH=/opt/steerzo/bin:$PATH \
    HF_HOME=/models \
    PYTHONDONTWRITEBYTECODE=1 \
    STEERZO_DATA_DIR=/data \
    STEERZO_HOST=0.0.0.0 \
    STEERZO_MAKE_KEY=1 \
    STEERZO_PORT=8000
# By number, so that Kubernetes can tell that it is not root.
USER 1000:1000
WORKDIR /data
VOLUME ["/data", "/models"]
EXPOSE 8000
# The start period is long because a base may have to be downloaded; a proxy in the environment is not asked.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m --retries=3 \
    CMD ["python3", "-I", "-c", "import os; from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:' + os.environ['STEERZO_PORT'] + '/readyz', timeout=4)"]
ENTRYPOINT ["steerzo"]
CMD ["serve"]
