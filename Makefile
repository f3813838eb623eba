# bgsnap. `make help` lists what can be made.
#
# Everything is written below out/, but for the bin/ and obj/ directories of the .NET projects.
out := out
results := $(out)/test-results
configuration ?= Release
export DOTNET_CLI_TELEMETRY_OPTOUT := 1
export DOTNET_NOLOGO := 1

# The largest agent that is let pass, in bytes.
agent_limit := 30000000

unit_projects := NodeAgent.Tests Crds.Tests Operator.Tests Fuzz.Tests ModelCheck.Tests

# A test that says nothing for so long hangs, and its run is ended.
hang_limit := 10m

space := $(subst ,, )

.NOTPARALLEL:
.PHONY: help build guests manifests reasons test test-unit test-chart test-linux test-images test-idle test-long test-disks test-all test-containers test-cluster test-e2e test-model fuzz chart-readme demo demo-local bench bench-operator storm lint clean

help: ## list the targets (the default)
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

build: ## build the agent: out/bgsnap-agent, one native binary
	hack/deps --build-only
	dotnet publish src/NodeAgent -c Release -o $(out)/publish -v quiet
	@test "$$(stat -c %s $(out)/publish/bgsnap-agent)" -lt $(agent_limit) || \
		{ echo "error: the agent is larger than $(agent_limit) bytes" >&2; exit 1; }
	@foreign=$$(ldd $(out)/publish/bgsnap-agent | awk '{ print $$1 }' | \
		grep -vE '^(linux-vdso\.so\.1|libc\.so\.6|libm\.so\.6|(/lib64/)?ld-linux-x86-64\.so\.2)$$'); \
		test -z "$$foreign" || { echo "error: the agent needs more than libc:" $$foreign >&2; exit 1; }
	install -m 0755 $(out)/publish/bgsnap-agent $(out)/bgsnap-agent

guests: ## fetch what the tests run on (QEMU 10, a kernel) and build the test guests
	hack/deps
	$(MAKE) --no-print-directory -C tests/guests

manifests: reasons ## write the custom resource definitions from src/Crds, for kustomize and for Helm
	dotnet run -c Release --project hack/manifests -- config/crd charts/bgsnap/crds --legacy config/legacy/crd

reasons: ## write docs/reasons.md from src/Vocabulary/Reasons.*.cs
	dotnet run -c Release --project hack/manifests -- --reasons docs/reasons.md

# hack/test says which of its parts run beside each other.
test: ## build everything and run the tests, of disks and on a cluster the short ones; root, installs what is missing
	rm -rf $(results)
	hack/test

# built=1: the projects are built, and another build may be running.
run_tests = dotnet test tests/$(1) -c $(configuration) $(if $(built),--no-build) \
	--logger 'console;verbosity=normal' --logger 'trx;LogFileName=$(1).trx' --results-directory $(results) \
	--blame-hang --blame-hang-timeout $(hang_limit) --blame-hang-dump-type none

test-unit: ## run the tests that need no rights, no QEMU and no cluster
	@failed=; \
		hack/line-length || failed="$$failed line-length"; \
		$(foreach project,$(unit_projects),$(call run_tests,$(project)) || failed="$$failed $(project)";) \
		test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

test-chart: ## lint the Helm chart, render it with every value, and compare it with config/
	hack/deps --helm
	$(call run_tests,Chart.Tests)

# Left out: what captures a disk again and again for minutes, soaks of migrations, restores through libvirt and lost volumes, silent peers.
long_classes := Disks.Instant Disks.IoThread Disks.Ext4 Disks.Quiesce Libvirt.LibvirtRestore Libvirt.Migration Restore.Instant.LostVolume Survival.SilentPeer
in_long_classes = $(subst $(space),$(1),$(foreach class,$(long_classes),FullyQualifiedName$(2)Linux.Tests.$(class)Tests))
test-linux: ## run the tests against real QEMUs, but the long ones; root, after `make build guests`
	$(call run_tests,Linux.Tests) --filter '$(call in_long_classes,&,!~)'

test-long: ## run the long tests against real QEMUs, 15 minutes; root, after `make build guests`
	$(call run_tests,Linux.Tests) --filter '$(call in_long_classes,|,~)'

test-idle: ## run the tests of survival one by one, with the limits that an idle machine keeps; root, after `make build guests`
	BGSNAP_IDLE=1 $(call run_tests,Linux.Tests) --filter FullyQualifiedName~Linux.Tests.Survival -- xUnit.MaxParallelThreads=1 xUnit.ParallelizeTestCollections=false

# They take about ten minutes.
test-disks: ## run all tests of disks against real QEMUs; root, after `make build guests`
	$(call run_tests,Linux.Tests) --filter FullyQualifiedName~Linux.Tests.Disks

# Each is run, even when the one before has failed.
test-all: ## everything: make test, those that need an idle machine, the long ones, every test on a cluster, and a QEMU in a container
	@failed=; \
		for part in test test-idle test-long test-e2e test-containers; do \
			$(MAKE) --no-print-directory $$part || failed="$$failed $$part"; \
		done; \
		test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

test-containers: ## capture a QEMU in a Docker container from the host; root, after `make build guests`
	hack/images test-vm
	$(call run_tests,Containers.Tests)

# The long steps come first, where they can be seen: Kubernetes (5 to 20 minutes, once) and the images. Tests that were killed
# cannot end their cluster.
cluster := $(or $(CLUSTER),/var/tmp/bgsnap-cluster)
define build_for_cluster
	@test -n "$$KUBE_BIN" || hack/build-kubernetes
	hack/images $(1)
endef
define run_on_cluster
	$(call build_for_cluster,$(1))
	@$(call run_tests,E2E.Tests) $(2) || { test ! -e $(cluster)/of-the-tests || hack/cluster down; exit 1; }
endef

# The long steps of test-cluster alone, for hack/test.
test-images:
	$(call build_for_cluster)

main_path := SnapshotTests.An_applied_snapshot RestoreTests.A_machine_that_is_lost CelTests AccessTests ChartTests ManifestsTests
test-cluster: ## the main path on a real cluster: apply, Ready, lose the machine, restore it; root, after `make build guests`
	$(call run_on_cluster,,--filter '$(subst $(space),|,$(foreach name,$(main_path),FullyQualifiedName~E2E.Tests.$(name)))')

test-e2e: ## apply, capture, restore and break things on a real cluster, half an hour; root, after `make build guests`
	$(call run_on_cluster,agent operator test-vm test-launcher)

test-model: ## try the threads of a capture in many orders; MODEL_SCHEDULES tries more, MODEL_FIRST begins elsewhere
	$(call run_tests,ModelCheck.Tests)

# The agent's assemblies count their edges in a copy of the test project: what reaches a new one is mutated further.
fuzz := $(out)/fuzz/program
fuzz: ## mutate foreign bytes for FUZZ_MINUTES (10); FUZZ_TARGET names one reader, FUZZ_SEED repeats a run, FUZZ_INPUT an input
	dotnet build tests/Fuzz.Tests -c Release -v quiet
	rm -rf $(fuzz)
	mkdir -p $(fuzz)
	cp -r tests/Fuzz.Tests/bin/Release/net10.0/linux-x64/. $(fuzz)
	dotnet $(fuzz)/Fuzz.Tests.dll instrument $(fuzz)/bgsnap-agent.dll \
		$(patsubst %,$(fuzz)/Bgsnap.%.dll,Linux SnapshotFormat Qemu Engine)
	FUZZ_OUT=$(out)/fuzz dotnet $(fuzz)/Fuzz.Tests.dll \
		$(if $(FUZZ_INPUT),replay $(FUZZ_TARGET) $(FUZZ_INPUT),run $(or $(FUZZ_MINUTES),10) '$(FUZZ_TARGET)' '$(FUZZ_SEED)')

chart-readme: ## write the table of values into the chart's README
	dotnet run -c Release --project hack/chart-readme -- charts/bgsnap

demo: ## the main job on a real cluster: snapshot a running VM, lose it, restore it; the cluster stays up
	hack/demo

demo-local: build guests ## boot a small VM, capture it while it counts, restore it: about a minute
	hack/demo-local

bench: build guests ## measure captures beside QEMU's own background-snapshot
	dotnet run -c Release --project tests/Benchmarks

# BENCH_KUBECONFIG names a cluster with the CRDs and no operator; without it one is started and ended.
bench-operator: ## 100, 300 and 1,000 snapshots over 100 simulated nodes on a real API server
	dotnet build tests/OperatorBenchmark -c Release -v quiet
	hack/bench-operator

# STORM_SEED and STORM_ROUND replay one round; STORM_LANES machines run side by side; STORM_WITHOUT leaves kinds out (tests/Storm --help names them).
# Each promise that a round found broken is kept with its logs and snapshots in out/storm.
STORM_MINUTES ?= 10
STORM_LANES ?= 1
storm := tests/Storm/bin/$(configuration)/net10.0/linux-x64/Storm
storm: ## guests, writers, kills, stops and changes at random, every snapshot checked and restored; root, after `make build guests`
	dotnet build tests/Storm -c $(configuration) -v quiet
	$(storm) --self-test
	$(storm) --minutes $(STORM_MINUTES) --lanes $(STORM_LANES) $(if $(STORM_SEED),--seed $(STORM_SEED)) \
		$(if $(STORM_ROUND),--round $(STORM_ROUND)) $(if $(STORM_WITHOUT),--without $(STORM_WITHOUT))

lint: ## check formatting, code style and the shell scripts
	hack/line-length
	dotnet tool restore
	dotnet csharpier check src tests hack
	dotnet format style bgsnap.slnx --verify-no-changes
	dotnet format analyzers bgsnap.slnx --verify-no-changes
	@if command -v shellcheck >/dev/null; then \
		shellcheck -x -a $$(git grep -lE '^#!.*bash' -- hack .ci tests); \
		else echo "lint: shellcheck is not installed; the shell scripts were not checked" >&2; fi

clean: ## remove what was built; what hack/deps fetched stays
	$(MAKE) --no-print-directory -C tests/guests clean
	rm -rf $(out)/publish $(out)/bgsnap-agent $(results)
	rm -rf src/*/bin src/*/obj tests/*/bin tests/*/obj
