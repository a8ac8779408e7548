module github.com/blocktier/blocktier/go/cmd/blocktier

go 1.26

require (
	github.com/btcsuite/btcd/chainhash/v2 v2.0.0
	github.com/btcsuite/btcd/wire/v2 v2.0.1
)

require (
	golang.org/x/crypto v0.40.0 // indirect
	golang.org/x/sys v0.46.0 // indirect
)
