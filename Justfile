# The same things by name; nothing needs this file. `npx rust-just` runs it where `just` is not installed.

# the program, as ./holdfast
build:
    CGO_ENABLED=0 go build -trimpath -o holdfast ./cmd/holdfast

# every test
test:
    go test ./...

# the quick ones
test-short:
    go test -short ./...

lint:
    test -z "$(gofmt -l .)"
    go vet ./...
    go tool staticcheck ./...

# figures of parts; bench/ holds the scripts for the whole program
bench:
    go test -run '^$' -bench . -benchtime 1s ./...

# watch a site outlive its author's machine
demo *ARGS:
    go run ./cmd/holdfast demo {{ARGS}}

# repeat the scenarios of repair with real processes; the log goes to soak.log
soak TIMES="20":
    bench/soak.sh {{TIMES}}
