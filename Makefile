# Every target needs Go and nothing else, but proto (protoc). `make` lists them.
# Tools run by `go run module@version`, so there is no install step and go.mod does not carry them.

GO           ?= go
GOLANGCI     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
# Packages under test at once and tests of one package at once. The race detector is heavy; two suits small machines
# (three packages at once took longer on two cores, and tests of whole nodes came late).
PARALLEL     ?= 2
TEST_TIMEOUT ?= 30m
BENCH        ?= .
BENCH_COUNT  ?= 5
BENCH_FLAGS  ?=
BENCH_BLOCKS ?= 150
SOAK_KILLS   ?= 200
SOAK_CHAOS   ?= 1000
SOAK_CRASHES ?= 1000
SOAK_FLIPS   ?= 3000
SOAK_SEED    ?= 1
SOAK_COMET_KILLS ?= 100
SOAK_COMET_STEPS ?= 3
SOAK_COMET_CORE_KILLS ?= 500
SOAK_COMET_NODE_RESTARTS ?= 4
SOAK_COMET_STOPS ?= 3
SOAK_COMET_FRAMES ?= 100000
SOAK_COMET_INFOS ?= 1000
SOAK_COMET_CRASHPOINTS ?= 2
SOAK_COMET_FUZZ ?= 10m
SOAK_JOIN_KILLS ?= 100
SOAK_TESTNET ?= 15m
SOAK_RESET_FIRE ?= 10m
COMET_SOAK   := COPPICE_COMET_SEED=$(SOAK_SEED)
COMET_TEST   := $(GO) test -count 1 -timeout 120m -v ./node -run
SEED         ?= 1
N            ?= 20000
# All packages of the modules in go.work; ./... would be those of the root module only.
PKGS         ?= work

.DEFAULT_GOAL := help
.PHONY: help build test lint bench bench-plots bench-go bench-cometbft soak otp-diff demo proto release-check bench-node bench-streams

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/coppice
	$(GO) build -trimpath -o bin/coppice ./cmd/coppice

# -race goes to all of it, vet and the commands that tests run as well, so that everything is compiled once and not twice.
# -w: without tables for debuggers, which no test reads, each of the hundred links is shorter. -vet=off: go vet has run.
# GORACE: a program with the race detector waits for a second before it exits, and tests execute hundreds.
test: ## vet and test everything with the race detector (PKGS, COPPICE_REQUIRE)
	@start=$$(date +%s); export GOFLAGS="$$($(GO) env GOFLAGS) -race -ldflags=-w" GORACE=atexit_sleep_ms=10; \
	$(GO) vet $(PKGS) && $(GO) test -vet=off -p $(PARALLEL) -parallel $(PARALLEL) -timeout $(TEST_TIMEOUT) $(PKGS); status=$$?; \
	echo "make test: $$(( $$(date +%s) - start )) s, exit $$status"; exit $$status

lint: ## gofmt, go vet, golangci-lint (.golangci.yml)
	@out=$$(git ls-files -z '*.go' | xargs -0 gofmt -l); if [ -n "$$out" ]; then echo "not gofmt-ed:"; echo "$$out"; exit 1; fi
	$(GO) vet work
	$(GO) run $(GOLANGCI) run $$($(GO) list -m -f '{{.Dir}}/...')

bench: ## one table: the runtime beside plain Go, suture, protoactor and OTP (BENCH_FLAGS; docs/performance.md)
	@cd bench && export GOWORK=off && $(GO) build -o ../bin/bench-runtime ./runtime
	@bin/bench-runtime $(BENCH_FLAGS)

bench-plots: ## draw what the work costs as it grows into docs/plots (BENCH_FLAGS; docs/performance.md)
	@cd bench && export GOWORK=off && $(GO) build -o ../bin/bench-runtime ./runtime
	@bin/bench-runtime -plots docs/plots -rounds 3 $(BENCH_FLAGS)

bench-go: ## run the Go benchmarks, and print the median of each; the lines go to bin/bench.txt (BENCH, BENCH_COUNT)
	@mkdir -p bin
	@$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(BENCH_COUNT) -p 1 -timeout 60m $(PKGS) 2>&1 | \
		$(GO) run ./internal/benchtable -raw bin/bench.txt

bench-node: build ## one table: the node beside etcd, and an older coppice (COPPICE_BASE, BENCH_FLAGS; -recover N: restarts)
	@cd bench && export GOWORK=off && $(GO) build -o ../bin/bench-node ./node
	@bin/bench-node -bin bin/coppice $(BENCH_FLAGS)

bench-cometbft: build ## the node and CometBFT's own kvstore, process by process, in turn (BENCH_FLAGS; -h lists them)
	cd bench && export GOWORK=off && $(GO) build -o ../bin/cometbft github.com/cometbft/cometbft/cmd/cometbft && \
		$(GO) build -o ../bin/bench-cometbft ./cometbft
	bin/bench-cometbft -bin bin $(BENCH_FLAGS)

bench-streams: ## one table: each sink beside a plain loop of its client, in turn (BENCH_BLOCKS, BENCH_COUNT; docs/performance.md)
	@mkdir -p bin
	@( $(GO) test -run '^$$' -bench . -benchtime $(BENCH_BLOCKS)x -count $(BENCH_COUNT) -p 1 -timeout 60m \
		./engines/streams/file ./engines/streams/postgres ./engines/streams/nats ./engines/streams/kafka ./engines/streams/plugin; \
		cd bench && GOWORK=off $(GO) test -run '^$$' -bench . -benchtime $(BENCH_BLOCKS)x -count $(BENCH_COUNT) ./streams ) 2>&1 | \
		$(GO) run ./internal/benchtable -compare -raw bin/bench-streams.txt

soak: build ## the long campaigns: kills of the process, of the tree, of the disk, of the log, of CometBFT (SOAK_…, above)
	bin/coppice soak --kills $(SOAK_KILLS)
	for i in 0 1 2; do COPPICE_CHAOS_KILLS=$(SOAK_CHAOS) COPPICE_CHAOS_SEED=$$(( $(SOAK_SEED) + i )) \
		$(GO) test -count 1 -timeout 60m -v -run TestRandomKillsLoseNothing ./node || exit 1; done
	for i in 0 1 2 3 4; do COPPICE_CRASHES=$(SOAK_CRASHES) COPPICE_CRASH_SEED=$$(( $(SOAK_SEED) + i )) \
		$(GO) test -count 1 -timeout 60m -v -run TestTheNodeSurvivesCrashesOfItsDisk ./node || exit 1; done
	COPPICE_SOAK=1 $(GO) test -count 1 -timeout 120m ./eventlog/... ./eventlog/pebblefs
	COPPICE_FLIPS=$(SOAK_FLIPS) COPPICE_FLIPS_SEED=$(SOAK_SEED) \
		$(GO) test -count 1 -timeout 120m -v -run TestBitFlips ./node/offline
	COPPICE_SOAK=1 $(GO) test -count 1 -timeout 120m -v -run Kills ./engines/streams/postgres ./engines/streams/nats ./engines/streams/kafka
	COPPICE_SOAK=1 $(GO) test -count 1 -timeout 180m -v ./cmd/coppice/internal/sinkfire
	COPPICE_SOAK=1 COPPICE_LADDER=3 $(GO) test -count 1 -timeout 60m ./engines/storage/snapshots ./engines/consensus/comet/... ./engines/streams/file \
		./examples/blockfiles
	COPPICE_SOAK=1 $(GO) test -count 1 -timeout 60m -run 'TestAStateSyncThatIsCutShort|TestAChainGoesOnOverItsResets|TestAServiceResetsItsChain' ./node
	COPPICE_SOAK=1 $(GO) test -count 1 -timeout 20m -run 'TestScripts/reset_join|TestStatesOfANode' ./cmd/coppice/command
	COPPICE_SOAK=1 $(GO) test -count 1 -timeout 20m -v -run TestTopInATerminal ./cmd/coppice/command
	COPPICE_SOAK=1 $(GO) test -count 1 -timeout 20m -run TestAnExtensionIsVerified ./internal/cometclients
	COPPICE_SOAK=1 $(GO) test -count 1 -timeout 20m -v \
		-run 'TestKillsOfNodesChangeNoReport|TestAByzantineAgentChangesNothing|TestATimeoutOnFourNodes' ./examples/oracle
	COPPICE_SOAK=1 $(GO) test -count 1 -timeout 30m -v \
		-run 'TestRoundsEqualTheModel|TestABehaviourSendsOnceThroughKills' ./engines/rounds ./engines/rounds/behaviours
	bin/coppice soak --consensus cometbft --kills $(SOAK_COMET_KILLS)
	cd bench && GOWORK=off $(GO) test -count 1 -timeout 20m ./...
	$(COMET_SOAK) COPPICE_COMET_KILLS=$(SOAK_COMET_KILLS) $(COMET_TEST) 'TestSIGKILLOfCometBFT$$'
	$(COMET_SOAK) COPPICE_COMET_NODE_KILLS=$(SOAK_COMET_KILLS) $(COMET_TEST) TestSIGKILLOfTheNodeWithCometBFT
	$(COMET_SOAK) COPPICE_COMET_STEPS=$(SOAK_COMET_STEPS) $(COMET_TEST) TestSIGKILLAtEachStepOfACommit
	$(COMET_SOAK) COPPICE_COMET_CORE_KILLS=$(SOAK_COMET_CORE_KILLS) $(COMET_TEST) TestKillsOfTheCoreLeaveCometBFTAlone
	$(COMET_SOAK) COPPICE_COMET_NODE_RESTARTS=$(SOAK_COMET_NODE_RESTARTS) $(COMET_TEST) TestKillsThatRestartTheNodeMakeOneCometBFT
	$(COMET_SOAK) COPPICE_COMET_STOPS=$(SOAK_COMET_STOPS) $(COMET_TEST) 'TestStoppedProcesses|TestANodeThatWasStopped|TestASlowStartOfCometBFT'
	$(COMET_SOAK) COPPICE_COMET_FRAMES=$(SOAK_COMET_FRAMES) $(COMET_TEST) TestABadClientOnTheABCISocket
	$(COMET_SOAK) COPPICE_COMET_INFOS=$(SOAK_COMET_INFOS) $(COMET_TEST) TestAStormOfInfo
	$(COMET_SOAK) COPPICE_COMET_CRASHPOINTS=$(SOAK_COMET_CRASHPOINTS) $(COMET_TEST) TestCrashPointsOfCometBFT
	$(GO) test -run '^$$' -fuzz FuzzConnection -fuzztime $(SOAK_COMET_FUZZ) ./engines/consensus/comet
	bin/coppice testnet chaos --duration $(SOAK_TESTNET) --seed $(SOAK_SEED)
	COPPICE_RESET_SEED=$(SOAK_SEED) COPPICE_RESET_FIRE=$(SOAK_RESET_FIRE) \
		$(GO) test -count 1 -timeout 60m -v -run TestResetsUnderFire ./cmd/coppice/internal/resetfire
	$(COMET_SOAK) COPPICE_JOIN_KILLS=$(SOAK_JOIN_KILLS) $(GO) test -count 1 -timeout 120m -v -run TestKillsDuringAJoinByStateSync ./cmd/coppice/internal/chaos
	COPPICE_SOAK=1 $(GO) test -count 1 -timeout 20m -v -run TestAPageFollows ./supervisor/eyes
	COPPICE_HAMMER=15000 COPPICE_STORMS=20000 $(GO) test -race -count 1 -run 'Hammer|NothingWaits' -timeout 20m ./supervisor ./engines ./pubsub
	COPPICE_SOAK=1 $(GO) test -count 1 -run BuildsForOtherSystems -timeout 20m ./supervisor
	$(GO) test -race -count 1 -shuffle on -p $(PARALLEL) -parallel $(PARALLEL) -timeout $(TEST_TIMEOUT) $(PKGS)

otp-diff: ## play N random histories on Erlang/OTP and here, and compare (SEED, N; needs erl)
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	$(GO) test -c -o "$$dir/otpdiff" ./supervisor/otpdiff && cd supervisor/otpdiff && \
	COPPICE_REQUIRE=erlang "$$dir/otpdiff" -test.run '^TestDifferential' -test.parallel 3 -test.timeout 0 -seed $(SEED) -n $(N) -timed 8

demo: ## run the demonstration: a node, load, a kill, nothing lost
	$(GO) run ./cmd/coppice demo

proto: ## generate the Go code of proto/ again (needs protoc)
	@tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && \
	GOBIN="$$tools" $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go && \
	GOBIN="$$tools" $(GO) install connectrpc.com/connect/cmd/protoc-gen-connect-go && \
	GOBIN="$$tools" $(GO) install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1 && \
	PATH="$$tools:$$PATH" $(GO) generate ./proto

release-check: ## publish HEAD's modules to a directory, embed each library, go install the program (docs/releasing.md)
	$(GO) run ./internal/releasecheck
