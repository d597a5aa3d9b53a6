# A menu: every recipe is one line over cargo and xtask, and everything works without just.

# show the menu
default:
    @just --list

# build and serve; arguments go to magpie, as in: just run models
run *args:
    cargo run --release -- {{ args }}

# every test
test:
    cargo xtask test

# the tests of one crate, as in: just test-one wire
test-one crate:
    cargo test -p {{ crate }}

# what the continuous integration runs
ci:
    cargo xtask ci

# the house rules
tidy:
    cargo xtask tidy

# licences, sources, advisories
deny:
    cargo xtask deny

# write the generated files
gen:
    cargo xtask gen

# what it costs, beside nginx
bench *args:
    cargo xtask bench {{ args }}

# clippy, warnings are errors
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# format the code
fmt:
    cargo fmt --all

# check a configuration
check file="magpie.yaml":
    cargo run --release -- check {{ file }}

# the build that is shipped
dist:
    cargo build --profile dist --locked -p magpie

# the container image
image:
    docker build -t magpie .
