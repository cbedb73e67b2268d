# What a reviewer needs: check, report, audit, board. No torch, no Ray, no shell tools; nothing of a record is executed.
#     docker build -t seedproof .
#     docker run --rm --network none -v "$PWD/records:/records:ro" seedproof check /records/NAME --sota 1.2166
# An image that runs sweeps is in deploy/kuberay-rayjob.yaml.
FROM python:3.12-slim AS build
COPY . /src
RUN python -m venv /opt/seedproof && /opt/seedproof/bin/pip install --no-cache-dir --constraint /src/constraints.txt "/src[report]"

FROM python:3.12-slim
COPY --from=build /opt/seedproof /opt/seedproof
RUN useradd --no-create-home --uid 10001 seedproof
USER seedproof
WORKDIR /records
ENTRYPOINT ["/opt/seedproof/bin/seedproof"]
CMD ["--help"]
