# The two commands of a newcomer: `make run` and `make test`. Each does all its set-up, every time,
# and costs seconds when there is nothing to do.
VENV  := .venv
BIN   := $(VENV)/bin
PORT  ?= 8080
CODE  := app.py stacks handler container client local staging recipes bench scripts/cli_docs.py tests

.PHONY: run test check format synth bench soak docs lock clean

run: $(VENV)/.local        ## start the chatbot on http://127.0.0.1:$(PORT)
	@$(BIN)/ock serve --port $(PORT)

test: $(VENV)/.dev         ## run every test
	$(BIN)/pytest -n auto --dist loadfile

check: $(VENV)/.dev        ## format, lint, types, import contracts, tests: what CI runs
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory test

format: $(VENV)/.dev       ## rewrite the code in the house style
	$(BIN)/ruff check --fix-only --quiet $(CODE)
	$(BIN)/ruff format $(CODE)

synth: $(VENV)/.dev        ## the CDK app's templates into cdk.out: no account, no Docker, no network
	@command -v node >/dev/null || { echo "make synth needs Node 20 or newer: the CDK's library runs on it" >&2; exit 1; }
	@JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION=20 $(BIN)/python app.py --offline $(CONTEXT)
	@echo "The templates are in cdk.out. Other settings: make synth CONTEXT='-c placement=colocated'"

bench: $(VENV)/.local      ## the local turn: time to first token, tokens/s, 1 and 8 clients
	$(BIN)/python -m bench.local_turn

soak: $(VENV)/.dev         ## 2,000 turns under DJL's engine: is memory flat, is every place freed
	$(BIN)/pytest -s tests/contract/djl/soak.py

docs: $(VENV)/.local       ## write docs/cli.md from the commands
	$(BIN)/python scripts/cli_docs.py

lock: $(VENV)/.dev         ## compile requirements/*.in into pinned, hashed files
	@sh scripts/lock

clean:                     ## remove what the commands above made here
	rm -rf $(VENV) cdk.out .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.local: requirements/local.txt pyproject.toml scripts/setup
	@sh scripts/setup $(VENV) local

$(VENV)/.dev: requirements/dev.txt pyproject.toml package.json scripts/setup scripts/setup_tests
	@sh scripts/setup $(VENV) dev
