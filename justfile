# Windlass: `just` alone lists what there is.

set shell := ["bash", "-euo", "pipefail", "-c"]

[private]
default:
    @just --list --unsorted

# install everything a developer needs
[group('develop')]
setup:
    uv sync --quiet

# format, and mend what the linter can mend
[group('develop')]
fmt:
    uv run ruff format --quiet
    uv run ruff check --quiet --fix

# style and mistakes
[group('check')]
lint:
    uv run ruff format --check --quiet
    uv run ruff check --quiet

# mypy, strict
[group('check')]
types:
    uv run mypy services shared tests docs benchmarks

# which way imports point
[group('check')]
imports:
    uv run lint-imports --no-cache >/dev/null || uv run lint-imports --no-cache

# all tests, or those that ARGS name
[group('check')]
test *ARGS:
    uv run pytest {{ if ARGS == "" { "-n 3 --dist loadgroup" } else { ARGS } }}

# the seams, each on its double and on the real servers and engines
[group('check')]
contract *ARGS:
    uv run pytest tests/contract -n 3 --dist loadgroup {{ ARGS }}

# all services in one process, in virtual time: `--seeds N [--from S]`, or the trace of one SEED
[group('check')]
simulate *ARGS:
    uv run python -m tests.simulation {{ ARGS }}

# the real command and real processes
[group('check')]
e2e *ARGS:
    uv run pytest tests/e2e -n 3 --dist loadgroup {{ ARGS }}

# what is too long for CI: a hundred thousand made-up expressions, and those that cost most
[group('check')]
soak COUNT="100000" SEED="1":
    uv run python -m tests.property.expressions.fuzz {{ COUNT }} {{ SEED }}
    uv run python -m tests.property.expressions.costly

# all that CI runs, in its order
[group('check')]
check: lint types imports test

# write the generated parts of the reference
[group('docs')]
docs:
    uv run python docs/generate.py

# write schema.sql, what the migrations come to
[group('docs')]
schema:
    uv run python -m tests.support.schema

# fail if a generated part of the reference is out of date
[group('docs')]
verify-docs:
    uv run python docs/generate.py --check

# measure a fresh stack and append to benchmarks/results.jsonl
[group('measure')]
bench *ARGS:
    uv run python benchmarks/run.py {{ ARGS }}

# fail if a task costs much more CPU than the best on record for this machine
[group('measure')]
bench-check *ARGS:
    uv run python benchmarks/run.py --check {{ ARGS }}

# keep everything running in the foreground
[group('run')]
up *ARGS:
    uv run windlass up {{ ARGS }}

# one service in the foreground
[group('run')]
run SERVICE *ARGS:
    uv run windlass {{ SERVICE }} {{ ARGS }}

# bring a database to this release's format
[group('run')]
migrate *ARGS:
    uv run windlass migrate {{ ARGS }}

# run an example
[group('run')]
example NAME:
    uv run windlass run examples/{{ NAME }}.yaml

# the image windlass/SERVICE on the Python image BASE: packages are collected here, so building needs no network
[group('deploy')]
image SERVICE BASE="python:3.13-slim":
    #!/usr/bin/env bash
    set -euo pipefail
    mkdir -p deploy/build
    made=$(mktemp -d deploy/build/{{ SERVICE }}.XXXXXX)
    trap 'rm -rf "$made"' EXIT
    packages=$made/packages
    python=$(docker run --rm --entrypoint python3 {{ BASE }} -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    machine=$(docker version --format '{{{{.Server.Arch}}' | sed 's/amd64/x86_64/; s/arm64/aarch64/')
    uv build --quiet --wheel --out-dir "$made/wheel"
    wheel=$(realpath "$made/wheel"/*.whl)
    uv pip install --quiet --target "$packages" --python-version "$python" --python-platform "$machine-manylinux_2_28" "windlass[{{ SERVICE }}] @ file://$wheel"
    docker build --quiet --build-arg BASE={{ BASE }} --build-arg SERVICE={{ SERVICE }} --tag "windlass/{{ SERVICE }}:${WINDLASS_TAG:-latest}" --file deploy/Dockerfile "$packages"
