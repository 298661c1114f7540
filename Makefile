# weir - the front door.  `make` alone says what there is.
MAKEFLAGS += --no-print-directory
JOBS := $(shell nproc 2>/dev/null || echo 2)
help:
	@echo "weir: endless conversations with a language model"
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/    make \1	\2/p' Makefile
demo: ## install what is missing, build, and hold a conversation several windows long
	@tools/deps.sh build demo && $(MAKE) build && tools/demo.sh build/release/weir
deps: ## install what building and testing need and the machine lacks (Debian packages)
	@tools/deps.sh build check demo
	@tools/deps.sh cross || echo "deps: without a cross compiler make check leaves NEON out"
build: ## the library and the command, in build/release
	@cmake -B build/release -G Ninja -DWEIR_TESTS=OFF >/dev/null
	cmake --build build/release
check: ## every test: plain, under ASan and UBSan, and NEON under qemu; fuzz corpora, linter
	@tools/check.sh
install: build ## library, command, man page and completions to PREFIX (/usr/local)
	cmake --install build/release --prefix $(or $(PREFIX),/usr/local)
	@[ "$$(id -u)" -ne 0 ] || ldconfig
bench: build ## how fast the model inside weir runs here, beside what the memory allows
	build/release/weir bench
lint: build ## the rules of the house, one line for each violation
	tools/lint.py --build build/release
asan: ## the tests under ASan and UBSan alone
	@cmake --preset asan -G Ninja >/dev/null && cmake --build build/asan
	ctest --test-dir build/asan -j$(JOBS) --output-on-failure
fuzz: ## every fuzzer for FUZZ_SECONDS (600) each, with clang
	@tools/deps.sh build fuzz && tools/fuzz.sh $(or $(FUZZ_SECONDS),600)
clean: ## remove what was built
	rm -rf build
.PHONY: help demo deps build check install bench lint asan fuzz clean
