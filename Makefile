# paddle-operator. `make` prints the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

export XDG_CACHE_HOME ?= $(HOME)/.cache
CACHE := $(XDG_CACHE_HOME)/paddle-operator
VENV := .venv
PY := $(VENV)/bin/python
LOCAL := .local
export PYTHONPATH := $(CURDIR)
export CONTROLLER_RUNTIME_ASSETS := $(CACHE)/bin
# node (a node of our own on this host, default) or kind (Docker and a network needed)
export CLUSTER ?= node
PYTEST_ARGS ?=
DEMO_ARGS ?=

.PHONY: help
help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  %-16s %s\n", $$1, $$2}'

$(VENV)/.ready: requirements/dev.txt requirements/tools.txt hack/venv.sh
	@bash hack/venv.sh $(VENV)
	@touch $@

.PHONY: venv
venv: $(VENV)/.ready ## create the Python environment (.venv) from the hashed requirement files

.PHONY: binaries
binaries: venv ## build etcd, Kubernetes and CoreDNS once into the cache folder
	@$(PY) -m hack.cluster binaries

.PHONY: cluster-up
cluster-up: venv ## bring up a real Kubernetes node on this host (root; CLUSTER=kind for kind)
	@$(PY) -m hack.cluster up

.PHONY: cluster-down
cluster-down: venv ## remove the node and everything it left on this host
	@$(PY) -m hack.cluster down

.PHONY: images
images: venv ## build the operator, runtime and add-on images and load them into the node
	@$(PY) -m hack.images all

.PHONY: install
install: venv ## install the CRDs into the current cluster
	@$(PY) -m hack.deploy install

.PHONY: deploy
deploy: venv ## install CRDs and the operator (two replicas, leader election)
	@$(PY) -m hack.deploy up

.PHONY: undeploy
undeploy: venv ## remove the operator and its CRDs
	@$(PY) -m hack.deploy down

.PHONY: demo
demo: venv ## everything, end to end: cluster, images, operator, a real OCR model, updates and canaries (DEMO_ARGS=--no-canary: without)
	@$(PY) -m hack.demo $(DEMO_ARGS)

.PHONY: plugin
plugin: venv ## build the kubectl plugin: .local/kubectl-paddle, one file for any PATH
	@$(PY) -m hack.plugin

.PHONY: generate
generate: venv ## CRD YAML -> pydantic types, CRD reference, RBAC
	@$(PY) -m hack.generate

.PHONY: format
format: venv ## format the code
	@$(VENV)/bin/ruff format . && $(VENV)/bin/ruff check --fix .

.PHONY: lint
lint: venv ## ruff, mypy --strict, import contracts, generated files are current, manifests pass a dry run
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) -m hack.generate --check
	@$(PY) -m hack.cluster binaries etcd kube-apiserver
	$(PY) -m hack.deploy dry-run

.PHONY: test
test: venv ## unit, integration and a short real-node e2e in one run, with the coverage gate
	@$(PY) -m hack.test $(PYTEST_ARGS)

.PHONY: e2e
e2e: venv ## only the real-cluster tests, all of them
	@$(PY) -m pytest e2e $(PYTEST_ARGS)

.PHONY: e2e-canary
e2e-canary: venv ## every canary scenario and fault run, with pictures under .local/report/canary (an hour)
	@$(PY) -m e2e.canary $(PYTEST_ARGS)

.PHONY: bench
bench: venv ## benchmarks: apply -> first prediction against a hand-written Deployment
	@$(PY) -m hack.bench

.PHONY: bench-runtime
bench-runtime: venv ## the inference server against mosec, KServe, LitServe, BentoML and the bare predictor, and reloads under load
	@$(PY) -m hack.bench.inference $(ARGS)

.PHONY: soak-runtime
soak-runtime: SECONDS ?= 7200
soak-runtime: EVERY ?= 300
soak-runtime: venv ## two hours of load with a reload every 5 minutes: nothing lost, nothing grows (SECONDS=600 EVERY=30)
	@$(PY) -m hack.bench.soak --seconds $(SECONDS) --every $(EVERY)

.PHONY: bench-control-plane
bench-control-plane: venv ## controller_runtime against Go's controller-runtime and kopf on one API server
	@$(PY) -m hack.bench.control_plane

.PHONY: conformance
conformance: venv ## clients of other inference servers against ours, in an environment of their own
	@$(PY) -m pytest tests/runtime/test_conformance.py -m "slow or not slow" -q $(PYTEST_ARGS)

.PHONY: bench-analysis
bench-analysis: venv ## 200 canaries on one operator: how late their looks are
	@$(PY) -m hack.bench.analysis

.PHONY: bench-traffic
bench-traffic: venv ## weight decided -> ACK by every router, against a bar of 50 ms
	@$(PY) -m hack.bench.traffic

.PHONY: reload
reload: venv ## 20 reloads under load, and an update in place of running pods on the real node
	@$(PY) -m pytest tests/runtime/test_reload.py e2e/test_inplace.py -m slow -q $(PYTEST_ARGS)

.PHONY: fuzz
fuzz: venv ## ten minutes of atheris on what strangers send, then schemathesis at length (FUZZ_SECONDS)
	@$(PY) -m pytest tests/runtime/test_fuzz.py -m slow -q $(PYTEST_ARGS)
	@OPENAPI_EXAMPLES=200 $(PY) -m pytest tests/runtime/test_openapi.py -q --timeout 3600 $(PYTEST_ARGS)

.PHONY: scale
scale: venv ## 5,000 PaddleModels on kwok nodes: all Ready, bounded memory, then no write (ARGS="--models 200 --idle 20")
	@$(PY) -m hack.bench.scale $(ARGS)

.PHONY: chaos-operator
chaos-operator: venv ## kill the operator 200 times while models come, change and go
	@$(PY) -m pytest tests/controller_runtime/scenarios/test_chaos_operator.py -m slow -q -s $(PYTEST_ARGS)

.PHONY: routes
routes: venv ## canaries on HTTPRoutes and VirtualServices, on an API server with their real CRDs: every way that may fail
	@$(PY) -m pytest tests/controllers/paddleservice/test_route_canaries.py -m "slow or not slow" -q $(PYTEST_ARGS)

.PHONY: lock
lock: venv ## recompile requirements/ from pyproject.toml (hashes, no index address)
	@bash hack/lock.sh
