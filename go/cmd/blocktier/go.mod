module github.com/blocktier/blocktier/go/cmd/blocktier

go 1.26
