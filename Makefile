# `make test` is the second of the project's two commands; `cargo run --release -- demo` is the first.
.DEFAULT_GOAL := help
.PHONY: help test sim demo bench lint docs fmt

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 16

test: ## Install what the tests need and run all of them
	@tests/run

sim: ## Simulate many nodes under faults (SEEDS=10000; SEED=42 runs that one and tells its story)
	$(if $(SEED),UMBEL_SIM_SEED=$(SEED),UMBEL_SIM_SEEDS=$(or $(SEEDS),10000)) \
		cargo test --release --quiet -p umbel-scheduler --test sim any_seed -- --nocapture

demo: ## Count the words of a folder (FOLDER=path; this repository's sources by default)
	cargo run --release --quiet -- demo $(if $(FOLDER),"$(FOLDER)")

bench: ## Measure; one JSON line per figure
	cargo build --release --quiet -p umbel-tests --bin bench --bin node-under-test
	target/release/bench $(MEASURES)

lint: ## Check the format and the lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

docs: ## Build the documentation; warnings are errors
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

fmt: ## Format everything
	cargo fmt --all
