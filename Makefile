# Every target can be run on a fresh machine that has Rust; each says what it does before it does it.
CARGO ?= cargo

.PHONY: help demo test check bench nats jaeger promtool planted sim exhaustive power-cuts damage fuzz soak

help:
	@echo 'make demo    find or fetch nats-server, build, show the product in a minute'
	@echo 'make test    find or fetch nats-server, run every test'
	@echo 'make check   formatting and lints'
	@echo 'make bench   find or fetch nats-server, build for speed, measure (about two minutes)'
	@echo 'make sim     random sagas and faults against the core: SIM_RUNS=1000000 SIM_NESTED_RUNS=500000 make sim'
	@echo 'make exhaustive  small sagas against every pair of faults, with a crash at every commit of each'
	@echo 'make planted plant one mistake after the other into core, coordinator and journal; each must be found'
	@echo 'make power-cuts  cut the power of the journal and of NATS: N=100 make power-cuts'
	@echo 'make damage  damaged stores: N=10000 make damage'
	@echo 'make fuzz    texts and bytes that nobody would send: N=100000 make fuzz'
	@echo 'make soak    half load with a fault every 30 s: HOURS=1 make soak'
	@echo 'make nats    find or fetch nats-server, nothing else'
	@echo 'make jaeger  find Jaeger, or build it from its Go module (four to eight minutes); the tests then read traces back from it'
	@echo 'make promtool  find promtool, or take it out of a Debian package; the tests then check the alert rules with it'

nats:
	@echo '==> nats-server: looking in the PATH and in .tools/bin, else fetching a pinned one into .tools/bin'
	@scripts/get-nats-server

jaeger:
	@echo '==> jaeger: looking in the PATH and in .tools/bin, else building it from its Go module into .tools/bin'
	@scripts/get-jaeger

promtool:
	@echo '==> promtool: looking in the PATH and in .tools/bin, else taking it out of Debian'"'"'s package into .tools/bin'
	@scripts/get-promtool

demo: nats
	@echo '==> building (the first build takes a few minutes)'
	@$(CARGO) build
	@echo '==> backstitch demo: own nats-server, own services, own data directory; all of it is stopped at the end'
	@$(CARGO) run --quiet -- demo

test: nats
	@echo '==> cargo test: units, simulation, and the real binary with a real nats-server'
	@rm -f "$${CARGO_TARGET_DIR:-target}/skipped.txt" "$${CARGO_TARGET_DIR:-target}/counted.txt" "$${CARGO_TARGET_DIR:-target}/traces.txt"
	@$(CARGO) test --no-fail-fast
	@cat "$${CARGO_TARGET_DIR:-target}/counted.txt"
	@if [ -s "$${CARGO_TARGET_DIR:-target}/skipped.txt" ]; then cat "$${CARGO_TARGET_DIR:-target}/skipped.txt"; else echo 'nothing was skipped'; fi
	@cat "$${CARGO_TARGET_DIR:-target}/traces.txt"

sim:
	@echo '==> simulation, optimised; SIM_SEED=n repeats one run and tells its story'
	@SIM_RUNS=$${SIM_RUNS:-1000000} SIM_NESTED_RUNS=$${SIM_NESTED_RUNS:-500000} $(CARGO) test --release --test sim runs_keep -- --nocapture --test-threads 1

exhaustive:
	@echo '==> small sagas: every fault, every pair of faults, and a crash at every commit of each; SIM_SAGA=race takes one of them'
	@SIM_EXHAUSTIVE=all $(CARGO) test --release --test sim every_fault_and_every_pair -- --nocapture

planted: nats
	@echo '==> planted mistakes: each is found within some seeds, about ten seconds, by the promise that is named'
	@$(CARGO) test --features planted --test sim --test it planted -- --nocapture

power-cuts: nats
	@echo '==> power cuts: half of them of the journal, half of NATS; root may mount what is needed'
	@POWER_CUTS=$${N:-100} $(CARGO) test --test it power_cut -- --nocapture --test-threads 1

damage:
	@echo '==> damaged stores: each opens whole, or refuses and says which file'
	@DAMAGED_STORES=$${N:-10000} $(CARGO) test --test it no_damage_loses -- --nocapture

fuzz:
	@echo '==> fuzzing: saga files, expressions, records, events, headers, names, schemas'
	@FUZZ_CASES=$${N:-100000} PROPTEST_CASES=$${N:-100000} $(CARGO) test --release --lib -- fuzz differential record_tests
	@FUZZ_CASES=$${N:-100000} $(CARGO) test --release --test sim fuzz

soak: nats
	@echo '==> soak: half of the load that this machine takes, a fault every 30 s'
	@SOAK_MINUTES=$$(awk "BEGIN { print 60 * $${HOURS:-1} }") $(CARGO) test --release --test it half_load -- --nocapture

check:
	@echo '==> formatting, lints'
	@$(CARGO) fmt --check
	@$(CARGO) clippy --all-targets -- -D warnings

bench: nats
	@echo '==> building for speed, then backstitch bench: own nats-server, own services, own orchestrator'
	@$(CARGO) build --release
	@$(CARGO) run --release --quiet -- bench
