# One command per task, the same on a laptop and in CI.
.PHONY: demo test test-idle test-timing lint fuzz bench test-containers test-upgrade build

# Logins through both gateways against a real slapd; stays up until Ctrl-C. DEMO_ONCE=1: check and exit.
demo:
	@tests/lab/install.sh demo
	@cargo build --quiet -p twinlock -p demo
	@target/debug/twinlock-demo

# Everything: format, lints, unit, property, vectors, conformance, stories on one machine and distributed, fuzzing.
test:
	@tests/run.sh

# 100,000 LDAP connections on which nothing happens (B-63); `make test` has 5,000. Both ends are in one process, which opens two files for
# each: needs a limit of open files that high, or root.
IDLE_CONNECTIONS ?= 100000
test-idle:
	ulimit -n $$((2 * $(IDLE_CONNECTIONS) + 1000)) && IDLE_CONNECTIONS=$(IDLE_CONNECTIONS) \
		cargo nextest run --workspace --test gateway thousands_who_say_nothing_cost_little

# What a clock tells of binds that are refused (L-41), with two thousand samples each at a domain controller, too; `make test` has 400 there.
test-timing:
	@tests/lab/install.sh test
	TIMING_SAMPLES=2000 cargo nextest run --workspace --test gateway no_clock_tells

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings

# Every fuzz target for FUZZ_SECONDS each.
fuzz:
	tests/fuzz/run.sh $${FUZZ_SECONDS:-60}

# What a login costs, load for both gateways, RADIUS and LDAP against their peers, thousands who idle or wait. Writes docs/performance.md.
bench:
	@tests/lab/install.sh bench
	tests/bench/run.sh

# Builds the images and runs the compose stack and the Kubernetes manifests. Needs root.
test-containers:
	@tests/lab/install.sh containers
	tests/containers/run.sh

# Gateways and verification of another build, such as BUILD=v1.0, beside those of this one.
test-upgrade:
	@tests/lab/install.sh test
	tests/upgrade.sh $(BUILD)

build:
	cargo build --release -p twinlock
