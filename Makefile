# `make test` is the second of the project's two commands; `cargo run --release -- demo` is the first.
.DEFAULT_GOAL := help
.PHONY: help test sim proof fleet-amqp restarts-amqp beat celery-suite hard-kills chaos gossip limits demo bench lint docs fmt

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 16

test: ## Install what the tests need and run all of them
	@tests/run

sim: ## Simulate many nodes under faults (SEEDS=10000; SEED=42 runs that one and tells its story)
	$(if $(SEED),UMBEL_SIM_SEED=$(SEED),UMBEL_SIM_SEEDS=$(or $(SEEDS),10000)) \
		cargo test --release --quiet -p umbel-scheduler --test sim any_seed -- --nocapture

proof: ## Prove Redis at length: 200 outages, 20 kills, 5,000 tasks and 500 chords with Celery's workers (some 40 minutes)
	UMBEL_OUTAGES=200 UMBEL_KILLS=20 UMBEL_FLEET_TASKS=5000 UMBEL_FLEET_CHORDS=500 UMBEL_LONG_TASK_SECS=60 \
		cargo test -p umbel-tests --test all -- --nocapture --test-threads=1 fault::redis_ compat::fleet

beat: ## Kill the leader of beat again and again (KILLS=200)
	UMBEL_BEAT_KILLS=$(or $(KILLS),200) cargo nextest run --profile long --release -p umbel-tests --no-capture beat::leaders

celery-suite: ## Run Celery's own integration suite against a node (SELECT="words of ids", SHARDS=2, WORKER=celery, CELERY=5.6.3)
	@tests/setup suite $(CELERY)
	UMBEL_SUITE=whole UMBEL_SUITE_SELECT="$(SELECT)" UMBEL_SUITE_SHARDS=$(SHARDS) UMBEL_SUITE_WORKER=$(WORKER) UMBEL_SUITE_CELERY=$(CELERY) \
		cargo test --release --quiet -p umbel-tests --test all compat::suite:: -- --nocapture --test-threads 1

hard-kills: ## Kill 500 Python processes under their tasks and look for what is left of them (KILLS=500)
	@tests/setup
	UMBEL_HARD_KILLS=$(or $(KILLS),500) cargo nextest run --profile long --workspace --no-capture -E 'test(/^fault::python::hard_kills/)'

chaos: ## Kill and freeze nodes of five for five minutes under load (UMBEL_CHAOS_SECS, _RATE, _EVERY, _SEED)
	UMBEL_CHAOS_SECS=$(or $(UMBEL_CHAOS_SECS),300) UMBEL_CHAOS_RATE=$(or $(UMBEL_CHAOS_RATE),300) UMBEL_CHAOS_EVERY=$(or $(UMBEL_CHAOS_EVERY),5) \
		cargo test --release -p umbel-tests --test all -- --nocapture --test-threads 1 --skip rabbitmq cluster::kills

chaos-amqp: ## The same on RabbitMQ
	UMBEL_CHAOS_SECS=$(or $(UMBEL_CHAOS_SECS),300) UMBEL_CHAOS_RATE=$(or $(UMBEL_CHAOS_RATE),300) UMBEL_CHAOS_EVERY=$(or $(UMBEL_CHAOS_EVERY),5) \
		cargo test --release -p umbel-tests --test all -- --nocapture --test-threads 1 \
		cluster::kills::nodes_that_are_killed_and_frozen_lose_nothing_on_rabbitmq cluster::kills::a_rolling_restart_is_not_noticed_on_rabbitmq

gossip: ## Fifty nodes gossip for ten minutes and lose one datagram in twenty (NODES=50, SECS=600)
	UMBEL_GOSSIP_NODES=$(or $(NODES),50) UMBEL_GOSSIP_SECS=$(or $(SECS),600) \
		cargo test --release -p umbel-tests --test all -- --nocapture cluster::many

limits: ## Four nodes keep a limit of 100 starts a second for a minute, on Redis and on RabbitMQ (SECS=60)
	UMBEL_LIMIT_SECS=$(or $(SECS),60) cargo test --release -p umbel-tests --test all -- --nocapture --test-threads 1 cluster::limits::four

fleet-amqp: ## 5,000 tasks and 500 chords in a mixed fleet of Celery and nodes on RabbitMQ
	@tests/setup
	UMBEL_FLEET_TASKS=$(or $(TASKS),5000) cargo nextest run --profile long --workspace --no-capture -E 'test(/^compat::amqp::a_mixed_fleet/)'

restarts-amqp: ## Kill RabbitMQ fifty times under load, the node a hundred times, and nodes of a fleet twenty times
	@tests/setup
	UMBEL_AMQP_RESTARTS=$(or $(RESTARTS),50) UMBEL_CRASH_AMQP_ROUNDS=$(or $(ROUNDS),100) UMBEL_KILLS=$(or $(KILLS),20) \
		cargo nextest run --profile long --workspace --no-capture \
		-E 'test(/^fault::amqp::a_killed_server/) | test(/^fault::crash::.*rabbitmq$$/) | test(/^fault::amqp_nodes/)'

demo: ## Count the words of a folder (FOLDER=path; this repository's sources by default)
	cargo run --release --quiet -- demo $(if $(FOLDER),"$(FOLDER)")

bench: ## Measure; one JSON line per figure
	@tests/setup bench
	cargo build --profile dist --quiet -p umbel-tests --bin bench --bin node-under-test
	target/dist/bench $(MEASURES)

lint: ## Check the format and the lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

docs: ## Build the documentation; warnings are errors
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

fmt: ## Format everything
	cargo fmt --all
