# SPDX-License-Identifier: GPL-2.0-or-later
#
# What people type. QEMU's own build (meson, ninja) does the building; the
# scripts do the rest. Each target does whatever has to come before it.

# Debian's kernels that there is a guest for; tests use the first three. The
# newest is what Debian stable's backports have, and others of those can be named.
KERNEL ?= 6.1
ifeq ($(filter 6.1 6.12 newest 6.% 7.% 8.% 9.%,$(KERNEL)),)
$(error KERNEL=$(KERNEL): take 6.1, 6.12 or newest)
endif
TESTED := guest-6.1 guest-6.12 guest-tested-newest iommufd

OUT := build/qemu/out
NINJA := scripts/env ninja
PREFIX ?= /usr/local

.PHONY: all qemu demo shell check check-scripts check-unit check-qtest check-qemu \
        check-functional check-listeners check-guest check-kernels check-long check-xen \
        check-xen-long check-asan fuzz soak check-tsan check-hooks check-series check-style check-deb \
        bench guest-tested-newest dom0 other-dom0 instead other-xen listeners iommufd \
        xen-shell install uninstall docs deb deb-indep series clean \
        distclean help
.DEFAULT_GOAL := all
# The targets run one after the other; each uses all processors by itself.
.NOTPARALLEL:

all: qemu
	@echo "Built: $(OUT)/qemu-system-x86_64 -device xen-pviommu,help"

# Again when what decides about it has changed, with the options it had.
build/configured: configure scripts/lib.sh scripts/packages scripts/get-qemu \
                  scripts/get-meson scripts/apply-hooks debian/changelog $(wildcard patches/qemu/*)
	./configure $(shell cat build/configured 2> /dev/null)

qemu: build/configured
	@echo "==> Building QEMU (5 minutes the first time, less with a compiler cache)"
	@$(NINJA) -C $(OUT) qemu-system-x86_64

# No file has such a name: these are made each time they are asked for.
guest-%: build/configured
	@scripts/get-kernel $*
	@echo "==> Building the guest for Linux $*"
	@scripts/build-initramfs $*

# Where it cannot be had, its tests are skipped, with the reason.
guest-tested-newest: build/configured
	@scripts/get-kernel --optional newest
	@echo "==> Building the guest for the newest Linux"
	@scripts/build-initramfs newest

demo: qemu guest-$(KERNEL)
	@tests/functional/demo --kernel=$(KERNEL)

shell: qemu guest-$(KERNEL)
	@tests/functional/demo --kernel=$(KERNEL) --shell

# A real Xen in our QEMU, and our QEMU in its dom0; of the machine's own Debian.
dom0: qemu guest-6.1 guest-6.12
	@scripts/get-dom0
	@scripts/get-xen
	@scripts/build-dom0

# The same of other releases, as far as it can be had; with other-xen with the
# series, too, and debug builds of all.
other-dom0: dom0
	@scripts/get-dom0 --other
	@scripts/get-xen --instead
	@scripts/build-dom0 --other

# That, where there is no source for the series of the machine's own release.
instead: dom0
	@! scripts/get-xen --missing || $(MAKE) --no-print-directory other-dom0

other-xen: other-dom0
	@scripts/get-xen --debug
	@scripts/get-xen --other
	@scripts/get-xen --other --debug

# On that hypervisor: series-4.20, for example; of the machine's own Debian without.
xen-shell: dom0 $(if $(findstring -,$(XEN)),other-dom0)
	@tests/functional/xen/check --shell $(XEN)

check: build/configured $(TESTED) dom0 instead listeners
	@scripts/run-tests scripts unit qtest qemu functional listeners xen

# Some of them only: make check-qtest TEST='op/map*'
ONE = $(if $(TEST),--test '$(TEST)')

check-scripts check-unit check-qtest check-qemu: check-%: build/configured
	@scripts/run-tests $(ONE) $*

check-functional: build/configured $(TESTED) iommufd
	@scripts/run-tests $(ONE) functional

# A host whose devices and kernel do DMA for a machine with the device.
listeners: build/configured iommufd
	@scripts/build-listeners
	@tests/functional/vhost-user root
	@scripts/build-kernel-tests

# iommufd of Linux 6.12, and a guest with it; where its source cannot be had, what
# needs it is skipped, with the reason.
iommufd: build/configured guest-6.12
	@scripts/build-iommufd

check-listeners: listeners
	@scripts/run-tests $(ONE) listeners

# A Debian on its own disk, with the driver's package in it.
check-guest: build/configured deb-indep
	@scripts/run-tests guest

check-long: build/configured $(TESTED) listeners deb other-xen
	@scripts/run-tests kernels long guest xen-other xen-long deb

# The driver against the headers of all kernels that Debian has.
check-kernels: build/configured
	@scripts/run-tests kernels

# The packages, installed and removed again in Debians of their own.
check-deb: build/configured guest-6.1 guest-6.12 deb
	@scripts/run-tests deb

check-xen: other-dom0
	@scripts/run-tests xen xen-other

check-xen-long: other-xen
	@scripts/run-tests xen-long

check-asan: build/configured
	@./configure $(filter-out --%able-sanitizers,$(shell cat build/configured)) \
	    --enable-sanitizers
	@scripts/run-tests --out build/qemu/out-asan unit qtest

# What has threads of its own. TSan takes ten times as long, and more memory.
TSAN_QTESTS := iothread locking queue queue-errors queue-calls queue-memory inflight random \
               notify fault virtio dma switch
check-tsan: build/configured
	@./configure $(filter-out --%able-tsan,$(shell cat build/configured)) \
	    --enable-tsan
	@scripts/run-tests --out build/qemu/out-tsan \
	    --only "$(TSAN_QTESTS)" unit qtest

# Operations, with clang's libFuzzer; COVERAGE=1 says what of the core that reaches.
SECONDS := 60
fuzz: build/configured
	@tests/fuzz/run --seconds $(SECONDS) $(if $(COVERAGE),--coverage)

# A guest in which all of it happens, by turns.
MINUTES := 60
soak: qemu guest-6.12
	@tests/functional/soak --minutes $(MINUTES)

# With the newer QEMU that was downloaded once; NEWER=1 looks for one that is newer.
check-hooks: build/configured
	@scripts/check-hooks $(if $(NEWER),--newer) $(ONE)

# PART=qemu, linux or xen: only that one. FROM=N goes on with patch N of it, and
# ONLY=N,N... looks at some. qemu takes an hour. XEN=4.20: on that version.
check-series: build/configured
	@scripts/check-series $(if $(XEN),--xen $(XEN)) $(if $(FROM),--from $(FROM)) $(if $(ONLY),--only $(ONLY)) $(PART)

# In a second: scripts/check-style FILE...
check-style: build/configured
	@scripts/get-checkpatch
	@echo "==> The style of every file (a minute)"
	@scripts/check-style

# Firmware, key maps and libraries are where Debian's packages have them. The
# emulator of the tests has a device that no user should have.
install: build/configured
	@./configure $(filter-out --for-install,$(shell cat build/configured)) --for-install
	@echo "==> Building QEMU without the tests' devices (a minute with a compiler cache)"
	@$(NINJA) -C $(OUT)-install qemu-system-x86_64
	install -D -s $(OUT)-install/qemu-system-x86_64 \
	    $(DESTDIR)$(PREFIX)/bin/qemu-system-x86_64

# Debian's own, with PREFIX=/usr, stays.
uninstall:
	@qemu=$(DESTDIR)$(PREFIX)/bin/qemu-system-x86_64; \
	if ! [ -e $$qemu ]; then \
	    echo "There is no $$qemu"; \
	elif $$qemu --version | grep -q '(xen-pviommu '; then \
	    rm $$qemu && echo "Removed $$qemu"; \
	else \
	    echo "$$qemu is not of xen-pviommu, and stays" >&2; exit 1; \
	fi

docs:
	@command -v sphinx-build > /dev/null || \
	    { echo "python3-sphinx is missing: apt-get install python3-sphinx" >&2; exit 1; }
	@sphinx-build -q -n -W -E --keep-going -d build/docs/cache docs build/docs/html
	@sphinx-build -q -n -W --keep-going -d build/docs/cache -b man docs build/docs/man
	@echo "The manual: build/docs/html/index.html"
	@echo "Man pages:  build/docs/man"

# Debian packages, in build/deb; deb-indep: those without machine code.
deb:
	@scripts/build-deb

deb-indep:
	@scripts/build-deb --indep

# SIGNOFF='NAME <ADDRESS>': the sender's. PART=qemu, linux or xen: only that one.
series: build/configured
	@scripts/make-series $(if $(XEN),--xen $(XEN)) $(if $(SIGNOFF),--signoff '$(SIGNOFF)') $(PART)

bench: build/configured deb-indep
	@tests/bench/run

clean:
	rm -rf build/guest build/iommufd build/linux build/logs build/hooks build/qemu/out* build/check-series
	rm -rf build/xen/*/out* build/xen/*/guest build/disk
	rm -rf build/fuzz/fast build/fuzz/sanitized build/fuzz/coverage
	rm -f build/configured build/xen/*/tests.img build/xen/*/passed.img build/xen/*/*.cpio.gz

distclean:
	rm -rf build

help:
	@echo "make                  build QEMU with -device xen-pviommu, in $(OUT)"
	@echo "make demo             a guest whose devices do DMA through it, step by step"
	@echo "make shell            the same guest, with a prompt"
	@echo "       KERNEL=6.12    with that Debian kernel instead of 6.1; or KERNEL=newest"
	@echo "make check            all tests; ends with 'N passed, N failed'"
	@echo "make check-scripts    what the scripts say when something is wrong; the documents' markup"
	@echo "make check-unit       the parts without QEMU"
	@echo "make check-qtest      the device, through its registers"
	@echo "       TEST='op/map*'  of these only what fits; also of unit, qemu, functional and scripts"
	@echo "make check-qemu       QEMU's own tests that the device could break"
	@echo "make check-listeners  VFIO, vhost-net, DPDK's vhost behind it"
	@echo "make check-functional guests: the demo, a balloon, kexec, a late module, all PCI models, ..."
	@echo "make check-guest      a Debian on its disk, by the manual's commands: all ways to boot, DPDK, kdump"
	@echo "make check-kernels    the driver compiles, without warnings, for all kernels of Debian"
	@echo "make check-long       guests for an hour: all models, 20 resets, snapshots, hot-plugs; libvirt; guest, kernels"
	@echo "make check-xen        a real Xen in our QEMU, and our QEMU in its dom0"
	@echo "make check-xen-long   the Xen of another Debian with the series; part of check-long"
	@echo "make xen-shell        a prompt in that dom0; XEN=series-4.20: on that hypervisor"
	@echo "make check-asan       unit and qtest, in a build with sanitizers"
	@echo "make check-tsan       what has threads, in a build with the thread sanitizer"
	@echo "make fuzz             operations, made by a fuzzer, against the model; SECONDS=60"
	@echo "make soak             a guest in which all of it happens, by turns; MINUTES=60"
	@echo "make check-style      the style of every file: checkpatch, linters, spelling"
	@echo "make check-hooks      unit and qtest with a newer QEMU, all of which is built"
	@echo "make series           the project as patches for QEMU, Linux and Xen, in build/series"
	@echo "make check-series     each of these applies, builds and passes its tests; two hours"
	@echo "       PART=qemu      or linux, xen: only that one; FROM=N goes on with patch N"
	@echo "make bench            what it costs beside QEMU's other IOMMUs, in build/bench"
	@echo "make check-deb        the packages, in Debians made for it; part of check-long"
	@echo "make install          QEMU, for PREFIX=/usr/local; uninstall: out of there again"
	@echo "make docs             the manual and man pages, in build/docs"
	@echo "make deb              Debian packages of it, in build/deb; deb-indep: without QEMU"
	@echo "make clean            remove what was built; distclean: and unpacked"
	@echo "./configure --help    other QEMU trees, sanitizers"
