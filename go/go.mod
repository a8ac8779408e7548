module github.com/blocktier/blocktier/go

go 1.26
