# One entry for each chore; the scripts are in .ci/.
# `make demo` runs the main job, `make test` runs all the tests. Both install what is missing, see `make setup`.

.PHONY: help setup demo test torture lint fuzz bench bench-levels bench-compare bench-check bench-idle

help:
	@echo "make demo     the broker, an embedded Kafka and 20 devices, to look at (needs nothing else)"
	@echo "make test     all tests, on a real Apache Kafka too; ends with one line of totals"
	@echo "make torture  the proofs on real parts, long: kills, outages, moved leaders, full disks (an hour; ONLY=kill for one)"
	@echo "make lint     format and clippy"
	@echo "make fuzz     one fuzz target for SECONDS=30: TARGET=packet, session or websocket"
	@echo "make bench    the micro benchmarks"
	@echo "make bench-levels, bench-compare   what the levels cost; other brokers on the same work (BOOTSTRAP=127.0.0.1:9092)"
	@echo "make bench-check BASE=rev   instructions and CPU per message beside those of another revision; fails when they grew"
	@echo "make bench-idle COUNT=100000   what connections cost that stand, and that come at once (an open file each)"
	@echo "make setup    installs what the others need, by package name, and says so"

setup:
	@.ci/setup all

# ARGS="--for 10s" ends by itself with a summary.
demo:
	@.ci/setup build
	cargo run --locked --bin forebay -- demo $(ARGS)

test: setup
	@.ci/test

# One after the other, with their figures. FOREBAY_SEED=... repeats a run's chances.
torture: setup
	$(if $(ONLY),,FOREBAY_MODEL_STEPS=1000000 cargo test --locked --release -p forebay-broker --lib spool::tests::model)
	FOREBAY_TORTURE=1 cargo test --locked --release -p forebay --test it -- torture::$(ONLY) --test-threads=1 --nocapture

lint:
	@.ci/setup build
	@.ci/lint

fuzz:
	@.ci/setup build
	broker/fuzz/run.sh $(or $(TARGET),packet) $(or $(SECONDS),30)

bench:
	@.ci/setup build
	cargo bench --locked -p forebay-bench

BENCH = cargo build --locked --release -p forebay -p forebay-bench && target/release/forebay-bench

bench-levels:
	@.ci/setup build
	$(BENCH) levels --bootstrap $(or $(BOOTSTRAP),127.0.0.1:9092) --max-ratio 1.3 $(ARGS)

bench-compare:
	@.ci/setup build
	$(BENCH) compare $(if $(BOOTSTRAP),--bootstrap $(BOOTSTRAP)) --write docs/benchmarks.md $(ARGS)

bench-check:
	@.ci/setup build
	.ci/bench-check $(BASE)

bench-idle:
	@.ci/setup build
	COUNT=$(or $(COUNT),100000) .ci/bench-idle
